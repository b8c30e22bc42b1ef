"""Imports run downward only, and the pure rooms hold no clock, no chance and no I/O."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "batchrun"

# A room may import rooms of a lower level. Rooms of one level do not know each other, unless named below.
LEVELS = {
    "version": -1,  # imports nothing, and may be imported by all
    "core": 0,
    "results": 1,
    "errors": 2,
    "services": 1,
    "edge": 1,
    "simulator": 2,
    "runner": 2,
    "transport": 2,
    "api": 3,
    "otel": 3,
    "cli": 4,
    "__main__": 5,
}
_TOP = max(LEVELS.values())  # what batchrun itself offers: all of it
EDGE_SHARED = {"exchange", "append_file"}  # edge rooms that the other edge rooms may use

PURE = {"core", "services"}
PURE_IMPORTS = {
    "__future__", "array", "bisect", "collections", "dataclasses", "difflib", "enum", "functools", "hashlib",
    "binascii", "heapq", "itertools", "json", "math", "operator", "orjson", "re", "string", "struct", "types", "typing",
    "unicodedata", "zlib",
}  # fmt: skip
IMPURE_BUILTINS = {"open", "print", "input", "exec", "eval", "breakpoint"}


def broken_laws(source: str, module: str) -> Iterator[str]:
    """What `source` does that `module` ("core.states") must not."""
    room, *inner = module.split(".")
    for node in ast.walk(ast.parse(source)):
        for name in _imported(node):
            top, *rest = name.split(".")
            if top != "batchrun":
                if room in PURE and top not in PURE_IMPORTS:
                    yield f"{module} imports {name}: pure rooms have no clock, no chance and no I/O"
                continue
            if not rest:
                continue
            target = rest[0]
            if target == room == "edge" and len(rest) > 1 and rest[1] not in {*EDGE_SHARED, *inner[:1]}:
                yield f"{module} imports {name}: edge rooms do not know each other"
            elif target != room and LEVELS.get(target, _TOP) >= LEVELS[room]:
                yield f"{module} imports {name}: imports run downward only"
        called = node.func if isinstance(node, ast.Call) else None
        if room in PURE and isinstance(called, ast.Name) and called.id in IMPURE_BUILTINS:
            yield f"{module} calls {called.id}()"


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "absolute imports only, so that layers can be read"
        if node.module == "batchrun":
            yield from (f"batchrun.{alias.name}" for alias in node.names)
        elif node.module is not None:
            yield node.module


MODULES = sorted(
    path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__"
)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_room_keeps_its_layer(path):
    module = ".".join(path.with_suffix("").parts)
    assert list(broken_laws((PACKAGE / path).read_text(), module)) == []


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import time", "core.planted"),
        ("def f():\n    from time import monotonic", "core.planted"),
        ("import random", "core.planted"),
        ("import os.path", "services.planted"),
        ("import asyncio", "core.planted"),
        ("x = open('f')", "core.planted"),
        ("from batchrun.edge import tape", "core.planted"),
        ("from batchrun.edge.append_file import Tape", "services.planted"),
        ("from batchrun import cli", "edge.planted"),
        ("from batchrun.edge.sink import Sink", "edge.source"),
        ("from batchrun.services import openai", "edge.planted"),
        ("from batchrun import __version__", "services.planted"),
    ],
)
def test_the_layer_test_can_fail(source, module):
    assert len(list(broken_laws(source, module))) == 1
