"""An input in another format is told with the command that converts it, and that command works when typed."""

import gzip
import json
import os
import shlex
import subprocess
import sys

import pytest

from batchrun.core.rows.parse import BodyFlags
from batchrun.edge.source import InputRefused, check

CSV = 'custom_id,prompt,model\n1,"hello, ""you""\nand you",m\n2,naïve,m\n'
ROWS = [
    {"custom_id": "1", "prompt": 'hello, "you"\nand you', "model": "m"},
    {"custom_id": "2", "prompt": "naïve", "model": "m"},
]


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "python3").symlink_to(sys.executable)  # the same, whatever this machine's is
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    return tmp_path


def refused(path):
    with pytest.raises(InputRefused) as error:
        check(path, BodyFlags(model="m"))
    return str(error.value)


@pytest.mark.parametrize(("name", "data", "format_", "target", "rows"), [
    ("in.csv", CSV.encode(), "CSV", "in.jsonl", ROWS),
    ("in.csv", b"\xef\xbb\xbf" + CSV.encode(), "CSV", "in.jsonl", ROWS),
    ("my rows.csv.gz", gzip.compress(CSV.encode(), mtime=0), "CSV", "my rows.jsonl", ROWS),
    ("in.tsv", CSV.replace(",", "\t").encode(), "tab-separated values", "in.jsonl", [ROWS[0] | {"prompt": 'hello\t "you"\nand you'}, ROWS[1]]),
    ("semi.txt", b"prompt;model\r\nx, y;m\r\n", "CSV", "semi.jsonl", [{"prompt": "x, y", "model": "m"}]),
    ("one.txt", b"prompt\nhello\n", "CSV", "one.jsonl", [{"prompt": "hello"}]),
    ("odd.csv", b"a question?\nhello\n", "CSV; name its columns as in a row: custom_id, prompt, model", "odd.jsonl", [{"a question?": "hello"}]),
    ("in.json", json.dumps(ROWS).encode(), "one JSON array", "in.jsonl", ROWS),
    ("in.json", json.dumps(ROWS, indent=2).encode(), "one JSON array", "in.jsonl", ROWS),
    ("in.jsonl", b' \n[{"prompt":\n"x"}]', "one JSON array", "in-2.jsonl", [{"prompt": "x"}]),  # never over what is there
    ("in.json", b'["a", "b"]\n', "one JSON array", "in.jsonl", [{"prompt": "a"}, {"prompt": "b"}]),
], ids=lambda value: value if isinstance(value, str) and value.isascii() else "")  # fmt: skip
def test_another_format_is_told_with_what_converts_it(somewhere, name, data, format_, target, rows):
    (somewhere / name).write_bytes(data)
    first, command, last = refused(name).splitlines()
    assert first == f"{name}: expected JSON lines, got {format_}; convert it:"
    assert last == f"then run {target}"
    subprocess.run(["sh", "-c", command], check=True, timeout=60)
    assert [json.loads(line) for line in (somewhere / target).read_text().splitlines()] == rows
    if not name.startswith("odd"):
        with check(target, BodyFlags(model="m")) as source:
            assert (source.report.problems.total, len(source)) == (0, len(rows))


def test_standard_input_is_told_to_be_piped_through(somewhere):
    reading, writing = os.pipe()
    os.write(writing, CSV.encode())
    os.close(writing)
    first, command = refused(reading).splitlines()
    os.close(reading)
    assert first == "standard input: expected JSON lines, got CSV:"
    convert = shlex.split(command)[2:5]
    assert convert[:2] == ["python3", "-c"]
    done = subprocess.run(convert, input=CSV.encode(), capture_output=True, check=True, timeout=60)
    assert [json.loads(line) for line in done.stdout.splitlines()] == ROWS


@pytest.mark.parametrize("text", [
    '[]\n{"prompt": "x"}\n',
    '["a"]\n{"prompt": "x"}\n',
    '[{"prompt": "a"}]\n[{"prompt": "b"}]\n',
    'custom_id,prompt\n{"prompt": "x"}\n',
    '{"prompt": "x",\n "model": "m"}\n',
    "prompt\n",
    "x\ny\n",
    '"a","b"\n{"prompt": "x"}\n',
])  # fmt: skip
def test_i18_json_lines_with_bad_rows_stay_json_lines(somewhere, text):
    path = somewhere / "in.jsonl"
    path.write_text(text)
    with check(path, BodyFlags(model="m")) as source:
        assert source.report.problems.total
