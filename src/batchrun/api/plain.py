"""Refusals of the inner rooms, as a caller in Python reads them: `skip_bad=True` where the command says `--skip-bad`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from batchrun.core.settings.settings import InvalidSetting, SettingKind, Settings
from batchrun.core.settings.usage_error import UsageError
from batchrun.core.text.printable import visible
from batchrun.edge.append_file import BatchFilesError, InputIsOutput
from batchrun.edge.source import InputFileError, SpoolFailed
from batchrun.results import run_errors as endings

_KINDS = {"--" + one.name.replace("_", "-"): (one.name, one.metadata["kind"]) for one in fields(Settings)}
_FLAG = re.compile(r"(with |give )?(--[a-z][a-z-]*|(?<![\w-])-o(?![\w-]))")
_LINE = re.compile(r"^  line ", re.MULTILINE)


def in_python(text: str) -> str:
    """`text` with the command's flags as arguments, and its commands as calls."""
    text = _LINE.sub("  row ", text.replace("run the same command again", "make the same call again"))
    said = _FLAG.sub(lambda found: (found[1] or "") + _argument(found[2], given=found[1] is not None), text)
    return "\n".join(visible(line, 2_000) for line in said.splitlines())


def _argument(flag: str, *, given: bool) -> str:
    name, kind = ("out", SettingKind.TEXT) if flag == "-o" else _KINDS.get(flag, (flag, None))
    if kind is SettingKind.SWITCH:
        return f"{name}=True"
    return f"{name}=…" if given and kind is not None else name


@contextmanager
def plainly() -> Iterator[None]:
    """Raise what a caller can name: `InvalidSetting`, `InputFileError`, `BatchFilesError`."""
    try:
        yield
    except (InvalidSetting, UsageError) as error:
        raise endings.SettingsError(in_python(str(error))) from error
    except (InputFileError, InputIsOutput) as error:
        raise endings.InputError(in_python(str(error))) from error
    except (BatchFilesError, SpoolFailed) as error:
        raise endings.FilesError(in_python(str(error))) from error
