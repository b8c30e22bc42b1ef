"""What the command refuses before it opens or sends anything: mistakes in its words that would cost rows or files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchrun.core.settings.usage_error import UsageError
from batchrun.edge.append_file import FileNames, expect_regular, refuse_shared
from batchrun.runner.session import Task


def refuse_shared_files(task: Task, summary: str | None, log: str | None) -> None:
    """Refuse a journal, a summary or a log that is another file of this command, before any is touched.

    Raises Misuse, and FileRefused where the summary would go through a link or to a device.
    """
    beside = {"--summary": summary, "--log-json": log}
    names = FileNames.of(task.output, task.journal)
    refuse_shared(names, task.input, {flag: path for flag, path in beside.items() if path})
    if summary:
        expect_regular(summary)


def refuse_uncollectable(settings: Mapping[str, Any]) -> None:
    """Refuse, where no journal is kept, to buy jobs that nobody could collect. Raises Misuse."""
    if settings.get("detach"):
        raise UsageError(
            "--detach with -o -: expected a journal, without which nobody can collect the jobs, got none; "
            "give --journal FILE (or leave --detach out, BATCHRUN_DETACH too)"
        )
