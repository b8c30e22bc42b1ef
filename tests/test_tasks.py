"""In runner, api and cli tasks live in anyio's groups: nothing starts, shields or limits one past them."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "batchrun"
ASYNCIO = {"create_task", "ensure_future", "wait_for", "shield", "gather", "timeout", "timeout_at", "TaskGroup"}
LOOP = {"create_task", "add_signal_handler", "run_in_executor"}  # of any object, a loop under whatever name
ALLOWED = {"api/run_task.py": ["create_task"]}  # the task that holds the group of a run: its comment says why


def unframed(source):
    """What `source` uses to start, shield or limit a task past anyio."""
    nodes = list(ast.walk(ast.parse(source)))
    imports = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names = {alias.asname or alias.name for alias in imports if alias.name == "asyncio"}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module in {"asyncio", "asyncio.tasks", "asyncio.timeouts"}:
            yield from (alias.name for alias in node.names if alias.name in ASYNCIO)
        if isinstance(node, ast.Attribute):
            of_asyncio = isinstance(node.value, ast.Name) and node.value.id in names
            if node.attr in LOOP or (of_asyncio and node.attr in ASYNCIO):
                yield node.attr


@pytest.mark.parametrize("room", ["runner", "api", "cli"])
def test_tasks_live_in_anyios_groups(room):
    paths = sorted((PACKAGE / room).rglob("*.py"))
    assert paths
    found = {str(path.relative_to(PACKAGE)): list(unframed(path.read_text())) for path in paths}
    assert {path: used for path, used in found.items() if used} == {
        path: used for path, used in ALLOWED.items() if path.startswith(f"{room}/")
    }


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("import asyncio\nasyncio.create_task(f())", ["create_task"]),
        ("import asyncio as a\na.ensure_future(f())", ["ensure_future"]),
        ("import asyncio\nawait asyncio.wait_for(f(), 1)", ["wait_for"]),
        ("import asyncio\nawait asyncio.shield(f())", ["shield"]),
        ("import asyncio\nawait asyncio.gather(f(), g())", ["gather"]),
        ("import asyncio\nasync with asyncio.timeout(1): pass", ["timeout"]),
        ("import asyncio\nasync with asyncio.TaskGroup(): pass", ["TaskGroup"]),
        ("from asyncio import gather as together", ["gather"]),
        ("loop.create_task(f())", ["create_task"]),
        ("self._loop.add_signal_handler(2, f)", ["add_signal_handler"]),
        ("asyncio.get_running_loop().run_in_executor(None, f)", ["run_in_executor"]),
        ("import anyio\nasync with anyio.create_task_group() as group: group.start_soon(f)", []),
        ("import anyio\nwith anyio.CancelScope(shield=True): pass\nanyio.open_signal_receiver(2)", []),
        ("import asyncio\nloop = asyncio.get_running_loop()\nloop.call_later(1, f)\nloop.create_future()", []),
    ],
)
def test_this_test_can_fail(planted, found):
    source = "async def main():\n" + "\n".join(f"    {line}" for line in planted.splitlines())
    assert list(unframed(source)) == found
