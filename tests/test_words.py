"""What people read is in plain words: every message, help, explanation and public docstring.

Each pattern is a word of our own, or an archaism, for which the field has a plain word.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import batchrun
import batchrun.errors
import batchrun.otel
import batchrun.taxonomy
from batchrun.cli import COMMANDS, main
from batchrun.core.taxonomy.rules import KINDS, TAXONOMY, WORDS, State

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "batchrun"
FILES = [*(ROOT / "samples").glob("*.toml"), *(ROOT / "samples").glob("*.py"), *(ROOT / ".github").glob("*.md")]
"""Texts that are read whole."""

# What may be counted "a second" or "a row".
RATE = (
    r"(?<!\w)(?:\{\}|\d|submits|requests|POSTs|polls|tokens|records|attempts|retries|lines?|objects?|jobs|tasks|times)"
)
PLAIN: dict[str, str] = {
    r"\blook(?:s|ed|ing|out)?\b": "poll, see, check",
    r"\bover there\b": "on the service",
    r"\b(?:go|goes|going|went) on\b": "resumes, continues, is still running",
    r"\bhome\b": "collects",
    r"\b(?:wish(?:es|ed)?|heard|in hand)\b": "cancel request, received, accepted",
    r"\bfarewell\b|\bstands?\b(?! for)": "ended unexpectedly, status, is",
    r"\bmend": "fix",
    r"\banew\b": "again",
    r"\bbegun\b": "started",
    r"\bbeside\b": "next to, during",
    r"\blately\b": "recent",
    r"(?<!there )\b(?:is|are) no (?!longer)|\bwhich is none\b": "unknown …, not a …",
    r"\bcame\b|\bcomes? as\b": "got",
    rf"{RATE} an? (?:second|minute|hour|row|job|entry|line|POST)\b": "per",
    r"\bnew attempts?\b": "retry",
    r"\banswer(?:s|ed|ing)?\b": "response, responds",
    r"\bnobody\b": "unknown",
    r"\bpatience\b": "timeouts and retries",
    r"\btells?\b": "shows, says",
    r"\bwires?\b": "HTTP transport",
    r"\brehears": "simulate",
    r"\bbooks?\b": "statistics",
    r"\b(?:latch|tape|desk|trail|tally|lens|story|laws?|standing)\b": "the field's own word",
    r"\bput(?:s)? in(?:to)? place|\bno place\b|\banother place\b|\bplaces?\b": "limit, location, index",
}
EXCEPTIONS = re.compile(
    r"--answer-timeout|BATCHRUN_ANSWER_TIMEOUT|answer_timeout|--cancel-patience|cancel_patience"  # flags stay
    r"|--wire\b|/_books\b|jobs_going_on|new_attempts?\b|answer_lost"  # hidden alias, old path, keys, codes
    r"|this simulated model refuses to answer"  # a refusal as models word it
)

PATTERNS = [(re.compile(pattern, re.IGNORECASE), plain) for pattern, plain in PLAIN.items()]


def found_in(text: str) -> list[str]:
    """What is not plain in `text`."""
    text = EXCEPTIONS.sub("", text)
    return [f"{found[0]!r} → {plain}" for pattern, plain in PATTERNS for found in [pattern.search(text)] if found]


def test_the_patterns_find_what_they_are_for():
    for text in ("a submit per second", "the job is no longer there", "there is no batch here", "--answer-timeout 5s"):
        assert not found_in(text), text
    for text in ("the last look", "it goes on", "600 submits a minute", "x is no flag, came 3", "nobody knows", "the answer is lost"):  # fmt: skip
        assert found_in(text), text


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """The string literals of a module that are texts: more than one word, and no docstring; {} where a value goes in."""
    tree = ast.parse(path.read_text())
    passed = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and isinstance(node.body[0], ast.Expr)
    }
    passed |= {  # what says what a constant or an attribute is, and patterns
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) or (isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile")
        for part in ([node.value] if isinstance(node, ast.Expr) else ast.walk(node))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in passed:
            passed |= {id(part) for part in node.values}
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed:
            yield node.lineno, node.value


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix().removesuffix(".py")
)
def test_messages(path):
    bad = [
        f"{path.relative_to(ROOT)}:{line}: {text[:160]!r}: {found}"
        for line, text in literals(path)
        if " " in text.strip() and (found := found_in(text))
    ]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("command", ["", *COMMANDS])
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_help(command, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "24")
    with pytest.raises(SystemExit) as ended:
        main([*([command] if command else []), "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert not found_in(shown)
    if columns >= 80:
        assert [line for line in shown.splitlines() if len(line) > 80] == []


def test_the_words_of_the_simulator(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["serve", "--words"]) == 0
    shown = capsys.readouterr().out
    assert not found_in(shown)
    assert [line for line in shown.splitlines() if len(line) > 80] == []


EXPLAINED = sorted({rule.word for rule in TAXONOMY} | set(WORDS) | set(KINDS) | {state.value for state in State})


@pytest.mark.parametrize("columns", [80, 200])
def test_explanations(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "24")
    for arguments in (["--all"], *([word] for word in EXPLAINED)):
        assert main(["explain", *arguments]) == 0
        shown = capsys.readouterr().out
        assert not found_in(shown), arguments
        assert [line for line in shown.splitlines() if len(line) > 80] == [], arguments


def public() -> Iterator[tuple[str, object]]:
    """Every public name, and the public attributes of public classes."""
    for module in (batchrun, batchrun.errors, batchrun.otel, batchrun.taxonomy):
        yield module.__name__, module
    names = {name: getattr(batchrun, name) for name in batchrun.__all__}
    names |= {name: kind for name, kind in vars(batchrun.errors).items() if isinstance(kind, type)}
    names |= {name: getattr(batchrun.taxonomy, name) for name in batchrun.taxonomy.__all__}
    for name, thing in names.items():
        yield name, thing
        if inspect.isclass(thing):
            for each, member in vars(thing).items():
                if not each.startswith("_") or each in ("__getitem__", "__iter__"):
                    yield f"{name}.{each}", member


def test_docstrings():
    bad = {
        name: found
        for name, thing in public()
        if (found := found_in((inspect.getdoc(thing) or "") if not isinstance(thing, str | int | tuple) else ""))
    }
    assert not bad


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_documents(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert not found_in(line), f"{path.name}:{number}: {line}"
