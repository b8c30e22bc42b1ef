"""The graph of imports: downward only, no circle, and the pure rooms hold no clock, no randomness and no I/O.

Every import counts: at the top of a module, inside a function, and those that are for types only. A lazy import saves
time at the start; it is no way around a layer. ``python tests/test_layers.py`` draws the graph of folders.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "batchrun"

# A room may import rooms of a lower level. Rooms of one level do not know each other, unless named below.
LEVELS = {
    "version": -1,
    "core": 0,
    "results": 1,
    "errors": 2,
    "taxonomy": 2,
    "services": 1,
    "edge": 1,
    "simulator": 2,
    "runner": 2,
    "transport": 2,
    "api": 3,
    "otel": 3,
    "__init__": 4,  # the public names
    "cli": 5,
    "__main__": 6,
}
EDGE_SHARED = {"exchange", "append_file", "redaction", "terminal"}  # edge rooms that the other edge rooms may use

# The same within core: its folders, lowest first. Those on one line do not know each other, but for CORE_NEIGHBOURS.
CORE_ORDER = [
    {"text"},
    {"taxonomy"},
    {"settings"},
    {"responses"},
    {"rows", "records", "journal", "limits", "pacing"},
    {"jobs"},
    {"status"},
    {"engine"},
]
CORE_LEVELS = {folder: level for level, folders in enumerate(CORE_ORDER) for folder in folders}

PURE = {"core", "services"}
PURE_IMPORTS = {
    "__future__", "array", "bisect", "collections", "dataclasses", "difflib", "enum", "functools", "hashlib",
    "binascii", "heapq", "itertools", "json", "math", "operator", "orjson", "re", "string", "struct", "types", "typing",
    "unicodedata", "zlib",
}  # fmt: skip
IMPURE_BUILTINS = {"open", "print", "input", "exec", "eval", "breakpoint"}

Sources = Mapping[str, str]
"""The text of each module, by its dotted name; a package's own is ``name.__init__``."""
Graph = dict[str, set[str]]


def sources() -> dict[str, str]:
    """All modules of the package."""
    return {
        ".".join(("batchrun", *path.relative_to(PACKAGE).with_suffix("").parts)): path.read_text()
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imports_of(source: str) -> Iterator[tuple[str, str | None]]:
    """The modules that a source imports, each with the name that it takes from it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only, so that layers can be read"
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)


def file_graph(texts: Sources) -> Graph:
    """Which module imports which, within the package."""

    def found(module: str, name: str | None) -> str | None:
        for candidate in (f"{module}.{name}", f"{module}.{name}.__init__", module, f"{module}.__init__"):
            if candidate in texts:
                return candidate
        return None

    return {
        importer: {
            target
            for module, name in imports_of(text)
            if module.split(".")[0] == "batchrun" and (target := found(module, name)) not in (None, importer)
        }
        for importer, text in texts.items()
    }


def folder_graph(graph: Graph) -> Graph:
    """The same between folders. A module of the top level is a node of its own: each is a public name, or the version."""
    folders: Graph = defaultdict(set)
    for importer, targets in graph.items():
        folder = _folder(importer)
        folders[folder] |= {_folder(target) for target in targets} - {folder}
    return dict(folders)


def _folder(module: str) -> str:
    folder = module.rpartition(".")[0]
    return module if folder == "batchrun" else folder


def circles(graph: Graph) -> list[list[str]]:
    """The groups of nodes that reach each other (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                visit(target)
            if target in stack:
                low[node] = min(low[node], low[target])
        if low[node] == index[node]:
            at = stack.index(node)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def broken_rules(source: str, module: str) -> Iterator[str]:
    """What `source` does that `module` ("core.taxonomy.states") must not."""
    room, *inner = module.split(".")
    for name in sorted({name if taken is None else f"{name}.{taken}" for name, taken in imports_of(source)}):
        top, *rest = name.split(".")
        if top != "batchrun":
            if room in PURE and top not in PURE_IMPORTS:
                yield f"{module} imports {name}: pure rooms have no clock, no randomness and no I/O"
            continue
        target = rest[0] if rest and rest[0] in LEVELS else "__init__"
        if target == room == "edge" and len(rest) > 1 and rest[1] not in {*EDGE_SHARED, *inner[:1]}:
            yield f"{module} imports {name}: edge rooms do not know each other"
        elif target == room == "core" and len(rest) > 1 and rest[1] in CORE_LEVELS and inner[0] != rest[1]:
            if CORE_LEVELS[rest[1]] >= CORE_LEVELS[inner[0]]:
                yield f"{module} imports {name}: imports run downward only"
        elif target != room and LEVELS[target] >= LEVELS[room]:
            yield f"{module} imports {name}: imports run downward only"
    for node in ast.walk(ast.parse(source)):
        called = node.func if isinstance(node, ast.Call) else None
        if room in PURE and isinstance(called, ast.Name) and called.id in IMPURE_BUILTINS:
            yield f"{module} calls {called.id}()"


def classes_defined_twice(texts: Sources) -> dict[str, list[str]]:
    """Class names with more than one home."""
    homes = defaultdict(list)
    for module, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(module)
    return {name: places for name, places in homes.items() if len(places) > 1}


def drawn(folders: Graph) -> str:
    """The graph of folders as text."""
    return "\n".join(f"{folder} -> {' '.join(sorted(targets)) or '-'}" for folder, targets in sorted(folders.items()))


SOURCES = sources()


@pytest.mark.parametrize("module", SOURCES, ids=str)
def test_a_room_keeps_its_layer(module):
    assert list(broken_rules(SOURCES[module], module.removeprefix("batchrun."))) == []


def test_no_file_imports_itself_by_way_of_others():
    assert circles(file_graph(SOURCES)) == []


def test_no_folder_imports_itself_by_way_of_others():
    folders = folder_graph(file_graph(SOURCES))
    assert circles(folders) == [], drawn(folders)


def test_a_class_name_has_one_home():
    assert classes_defined_twice(SOURCES) == {}


def test_core_has_about_ten_folders_and_each_stands_in_the_order():
    folders = {module.split(".")[2] for module in SOURCES if module.startswith("batchrun.core.")} - {"__init__"}
    assert folders == CORE_LEVELS.keys()


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import time", "core.text.planted"),
        ("def f():\n    from time import monotonic", "core.text.planted"),
        ("import random", "core.text.planted"),
        ("import os.path", "services.planted"),
        ("import asyncio", "core.engine.planted"),
        ("x = open('f')", "core.text.planted"),
        ("from batchrun.edge import append_file", "core.text.planted"),
        ("from batchrun.edge.append_file import AppendFile", "services.planted"),
        ("from batchrun import cli", "edge.planted"),
        ("from batchrun import Records", "services.planted"),
        ("from batchrun.edge.sink import Sink", "edge.source.planted"),
        ("from batchrun.services import openai", "edge.planted"),
        ("from batchrun.core.engine.engine import Engine", "core.jobs.planted"),
        ("from batchrun.core.records.record import Record", "core.journal.planted"),
        ("def f():\n    from batchrun.core.limits import gate", "core.text.planted"),
    ],
)
def test_the_layer_test_can_fail(source, module):
    assert len(list(broken_rules(source, module))) == 1


def test_the_circle_tests_can_fail():
    planted = {
        "batchrun.a.__init__": "",
        "batchrun.a.one": "def f():\n    from batchrun.b import two",
        "batchrun.b.__init__": "",
        "batchrun.b.two": "from batchrun.a.three import x",
        "batchrun.a.three": "class X: ...",
        "batchrun.b.four": "class X: ...",
    }
    graph = file_graph(planted)
    assert circles(graph) == []
    assert circles(folder_graph(graph)) == [["batchrun.a", "batchrun.b"]]
    assert circles(file_graph({**planted, "batchrun.a.three": "from batchrun.a import one"})) == [
        ["batchrun.a.one", "batchrun.a.three", "batchrun.b.two"]
    ]
    assert classes_defined_twice(planted) == {"X": ["batchrun.a.three", "batchrun.b.four"]}


if __name__ == "__main__":
    print(drawn(folder_graph(file_graph(SOURCES))))
