import json
import os
import stat

import pytest

from batchrun.edge.append_file import FileRefused
from batchrun.edge.eventlog import EventLog

NOW = 1_700_000_000.25


def log_at(path, **more):
    return EventLog(str(path), clock=lambda: NOW, **more)


def test_events_are_lines_of_json_in_a_private_file(tmp_path):
    log = log_at(tmp_path / "log")
    log.write("start", rows=3)
    log.write("record", key="a\nb\x1b", state="failed", code="server_error")
    log.close()
    log.close()
    log.write("end")  # nothing, and no error
    first, second = (tmp_path / "log").read_text().splitlines()
    assert json.loads(first) == {"at": "2023-11-14T22:13:20.250Z", "event": "start", "rows": 3}
    assert json.loads(second)["key"] == "a\nb\x1b"
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_it_is_appended_to_and_a_torn_line_stays_alone(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b'{"event":"st')
    log = log_at(path)
    log.write("end")
    log.close()
    lines = path.read_bytes().split(b"\n")
    assert lines[0] == b'{"event":"st'
    assert json.loads(lines[1])["event"] == "end"


@pytest.mark.parametrize("value", ["\ud800", 2**70])
def test_what_orjson_refuses_is_written_all_the_same(value, tmp_path):
    log = log_at(tmp_path / "log")
    log.write("record", key=value)
    log.close()
    assert json.loads((tmp_path / "log").read_text())["key"] == value


@pytest.mark.parametrize("kind", ["link", "folder", "device"])
def test_special_files_are_refused(kind, tmp_path):
    path = tmp_path / "log"
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(FileRefused):
        log_at("/dev/null" if kind == "device" else path)


def test_a_log_that_cannot_be_written_ends_and_says_so_once(tmp_path):
    message = []
    log = log_at(tmp_path / "log", failed=message.append)
    reading = os.open(tmp_path / "log", os.O_RDONLY)
    os.dup2(reading, log._file.descriptor)  # a write fails with EBADF from here on
    os.close(reading)
    log.write("pause", seconds=3)
    log.write("pause", seconds=4)
    log.close()
    assert len(message) == 1
    assert message[0] == log.failure
    assert "expected to append an event, but: " in message[0]
    assert message[0].endswith("; the run continues without it")


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "\x7f", "\x9b2J", "\u202e", "\u2028", "é", "\U0001f600", "\ud800", "\\u007f"]
)
def test_h13_a_line_is_printable_ascii_whatever_is_in_it(text, tmp_path):
    log = log_at(tmp_path / "log")
    log.write("record", key=text, state="failed", code=f"a{text}b")
    log.write("halt", reason=text, message=text, rows=2**70, seconds=0.5)
    log.close()
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert all(line.isascii() and line.decode().isprintable() for line in lines)
    first, second = map(json.loads, lines)
    assert (first["key"], first["code"]) == (text, f"a{text}b")
    assert (second["message"], second["rows"], second["seconds"]) == (text, 2**70, 0.5)
