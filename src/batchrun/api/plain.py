"""Refusals of the inner rooms, as a caller in Python reads them: `skip_bad=True` where the command says `--skip-bad`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from batchrun.core.misuse import Misuse
from batchrun.core.settings import Kind, Settings, SettingsError
from batchrun.core.visible import visible
from batchrun.edge.source import InputError, SpoolFailed
from batchrun.edge.tape import FilesError, InputIsOutput
from batchrun.results import endings

_KINDS = {"--" + one.name.replace("_", "-"): (one.name, one.metadata["kind"]) for one in fields(Settings)}
_FLAG = re.compile(r"(with |give )?(--[a-z][a-z-]*|(?<![\w-])-o(?![\w-]))")
_LINE = re.compile(r"^  line ", re.MULTILINE)


def in_python(text: str) -> str:
    """`text` with the command's flags as arguments, and its commands as calls."""
    text = _LINE.sub("  row ", text.replace("run the same command again", "make the same call again"))
    said = _FLAG.sub(lambda found: (found[1] or "") + _argument(found[2], given=found[1] is not None), text)
    return "\n".join(visible(line, 2_000) for line in said.splitlines())


def _argument(flag: str, *, given: bool) -> str:
    name, kind = ("out", Kind.TEXT) if flag == "-o" else _KINDS.get(flag, (flag, None))
    if kind is Kind.SWITCH:
        return f"{name}=True"
    return f"{name}=…" if given and kind is not None else name


@contextmanager
def plainly() -> Iterator[None]:
    """Raise what a caller can name: `SettingsError`, `InputError`, `FilesError`."""
    try:
        yield
    except (SettingsError, Misuse) as error:
        raise endings.SettingsError(in_python(str(error))) from error
    except (InputError, InputIsOutput) as error:
        raise endings.InputError(in_python(str(error))) from error
    except (FilesError, SpoolFailed) as error:
        raise endings.FilesError(in_python(str(error))) from error
