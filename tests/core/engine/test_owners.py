"""Each mutable fact has one owner: a part sets its own fields and calls methods of others, which say what happened.

In core/engine, core/jobs and core/limits a field is set through `self` only. A job's `history` is its own, too. The two
exceptions are fields of a job that the hot path sets: `phase`, by `Jobs.move`, and `due`, by `Timers`. All other fields
of a job are set by methods of `Job`, as its docstring says.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun import core
from batchrun.core.jobs.job import History

ROOT = Path(core.__file__).parent
FILES = sorted(path for folder in ("engine", "jobs", "limits") for path in (ROOT / folder).glob("*.py"))
EXCEPTIONS = {("jobs/jobs.py", "job.phase"), ("jobs/job.py", "job.due")}
EXCEPTIONS |= {("jobs/job.py", f"history.{name}") for name in History.__slots__}
MUTATING = {
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert",
    "intersection_update", "pop", "popitem", "popleft", "remove", "reverse", "setdefault", "sort", "subtract", "update",
}  # fmt: skip


def is_foreign(node: ast.expr, aliases: set[str]) -> bool:
    """Whether `node` is a field of another object: an attribute of anything but `self`, or a local name for one."""
    if isinstance(node, ast.Name):
        return node.id in aliases
    while isinstance(node, ast.Subscript):
        node = node.value
    return isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self")


def is_of_event(node: ast.expr) -> bool:
    """Whether `node` is what an event is about: `event.job` is no field that somebody owns."""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "event"


def targets_of(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            found = targets
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target) | ast.For(target=target):
            found = [target]
        case ast.withitem(optional_vars=target) if target is not None:
            found = [target]
        case _:
            found = []
    return [inner for target in found for inner in (target.elts if isinstance(target, ast.Tuple) else [target])]


def aliases_in(function: ast.AST) -> set[str]:
    """Local names for fields of other objects: `waiting = self._jobs.waiting`."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=True))
            found |= {
                name.id
                for name, field in pairs
                if isinstance(name, ast.Name) and is_foreign(field, set()) and not is_of_event(field)
            }
    return found


def foreign_changes(source: str) -> Iterator[str]:
    """What `source` changes that belongs to another object."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        aliases = aliases_in(function)
        for node in ast.walk(function):
            for target in targets_of(node):
                changed = target.value if isinstance(target, ast.Subscript) else target
                if is_foreign(changed, aliases if isinstance(target, ast.Subscript) else set()):
                    yield ast.unparse(target)
            effect = node.value if isinstance(node, ast.Expr) else None
            match node:
                case ast.Call(func=ast.Name(id="setattr"), args=[ast.Name(id=name), *_]) if name != "self":
                    yield ast.unparse(node)
                case ast.Call(func=ast.Attribute(value=receiver, attr=method)) if method in MUTATING:
                    if is_foreign(receiver, aliases):
                        yield ast.unparse(node)
            match effect:
                case ast.Call(func=ast.Attribute(value=receiver, attr=method)) if method not in MUTATING:
                    if is_foreign(receiver, aliases):
                        yield ast.unparse(effect)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_part_changes_only_what_is_its_own(path):
    name = path.relative_to(ROOT).as_posix()
    changed = {change for change in foreign_changes(path.read_text()) if (name, change) not in EXCEPTIONS}
    assert not changed, f"{name} changes fields of other objects: give their owner a method that says what happened"


@pytest.mark.parametrize(
    "line",
    [
        "self._gate.doubted = False",
        "desk.touched = True",
        "desk.accepted, desk.retries = 0, 0",
        "job.polls += 1",
        "job.history.looks = 0",
        "self.cancels.settle_at = self.watch.settle_at",
        "self._jobs.watched[job.job_id] = job",
        "del self._jobs.watched[job.job_id]",
        "self._rows_in.known.add(key)",
        "known = self._rows_in.known; known.add(key)",
        "polls, known = self._polls, self._rows_in.known; known[key] = 1",
        "first = self._jobs.queue.popleft()",
        "self._gate.tokens.settle(now, 1, 0)",
        "rate = self._gate.tokens; rate.settle(now, 1, 0)",
        "setattr(job, 'phase', None)",
    ],
)
def test_the_test_of_owners_can_fail(line):
    assert list(foreign_changes(f"def planted(self, job, desk, key, now):\n    {line}"))


def test_what_is_ones_own_may_change():
    source = """def own(self, job):
        self.polls += 1
        self._queue.append(job)
        self._counts[job.key] = 1
        jobs, waiting = self._jobs, self._waiting
        waiting.pop(job)
        jobs.append(job)
        delay = self._jobs.chance()
    """
    assert list(foreign_changes(source)) == []
