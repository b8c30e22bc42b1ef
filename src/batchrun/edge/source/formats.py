"""An input that is no JSON lines, recognised by its beginning: CSV, or one JSON array. Told with the command that converts it.

Only what cannot be meant as JSON lines is refused here: where a row of JSON follows, a bad first line stays one bad row.
"""

from __future__ import annotations

import os
import re
import shlex

import orjson

from batchrun.core.text.readable import visible
from batchrun.edge.source.opening import InputRefused
from batchrun.edge.terminal import COPIED

_ARRAY = re.compile(rb'\s*\[\s*(["{])')
_NAME = re.compile(r"[^\W\d][\w .-]{0,60}")
_DELIMITERS = (",", "\t", ";")
_ROW = frozenset({"prompt", "input", "messages", "body"})
_CSV = tuple(f"{suffix}{packed}" for suffix in (".csv", ".tsv") for packed in ("", ".gz", ".zst"))
_PACKED = (".gz", ".zst")
_READ = 'open(0, encoding="utf-8-sig", newline="")'  # standard input, with or without a byte order mark


def refuse_other_formats(first: bytes, name: str, path: str | None) -> None:
    """Refuse an input whose first block shows another format; `path` is None where it is no file."""
    begun = first.lstrip()
    if (found := _ARRAY.match(begun)) is not None and not _is_one_line_of_many(begun):
        row = "row" if found[1] == b"{" else '{"prompt": row}'
        script = f"import json; [print(json.dumps({row})) for row in json.load({_READ})]"
        raise _refused(name, "one JSON array", "", script, path)
    if (columns := _columns(begun, named=path is not None and path.endswith(_CSV))) is not None:
        delimiter, names = columns
        how = "" if delimiter == "," else f", delimiter={delimiter!r}".replace("'", '"')
        script = f"import csv, json; [print(json.dumps(row)) for row in csv.DictReader({_READ}{how})]"
        lacks = "" if _ROW.intersection(names) else "; name its columns as in a row: custom_id, prompt, model"
        raise _refused(name, "CSV" if delimiter != "\t" else "tab-separated values", lacks, script, path)


def _is_one_line_of_many(begun: bytes) -> bool:
    """Whether the first line is an array by itself, and others follow: JSON lines with a bad row."""
    line, _, rest = begun.partition(b"\n")
    if not rest.strip():
        return False
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _columns(begun: bytes, *, named: bool) -> tuple[str, list[str]] | None:
    """The delimiter and the columns of a CSV; None where it is none, or where a row of JSON follows the first line.

    Where the file is `named` as one its columns may have any names.
    """
    lines = begun.removeprefix(b"\xef\xbb\xbf").splitlines()
    if len(lines) < 2 or any(line.lstrip()[:1] in (b"{", b"[") for line in lines):
        return None
    head = lines[0].decode("utf-8", "replace")
    delimiter = max(_DELIMITERS, key=head.count)
    names = [cell.strip().strip('"') for cell in head.split(delimiter)]
    plain = all(map(_NAME.fullmatch, names)) and (len(names) > 1 or names[0] in _ROW)
    return (delimiter, names) if named or plain else None


def _refused(name: str, got: str, more: str, script: str, path: str | None) -> InputRefused:
    command = f"python3 -c {shlex.quote(script)}"
    if path is None or not path.isprintable():
        remedy = f"\n{COPIED}… | {command} | batchrun - -o OUT"
        return InputRefused(f"{name}: expected JSON lines, got {got}{more}", remedy)
    packed = next((suffix for suffix in _PACKED if path.endswith(suffix)), "")
    target = _free(path.removesuffix(packed))
    if packed:
        unpack = {".gz": "gzip -dc", ".zst": "zstd -dc"}[packed]
        command = f"{unpack} {shlex.quote(path)} | {command}"
    else:
        command += f" < {shlex.quote(path)}"
    remedy = f"\n{COPIED}{command} > {shlex.quote(target)}\nthen run {visible(target, 200)}"
    return InputRefused(f"{name}: expected JSON lines, got {got}{more}; convert it", remedy)


def _free(path: str) -> str:
    """A name for the converted input at which nothing is."""
    stem = os.path.splitext(path)[0]  # noqa: PTH122 - str, as all paths in the edge
    target, number = f"{stem}.jsonl", 1
    while os.path.lexists(target):
        number += 1
        target = f"{stem}-{number}.jsonl"
    return target
