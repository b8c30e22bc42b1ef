import gzip
import json
import os
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchrun.core.jobs.job import Row
from batchrun.core.rows.key_index import KeyIndex
from batchrun.core.rows.parse import BodyFlags, RowParser
from batchrun.core.text.readable import Option
from batchrun.edge.source import Checked, InputChanged, InputFileError, InputRefused, SpoolFailed, check, opening
from batchrun.edge.source.check import lines
from batchrun.edge.source.opening import Spool

try:
    from compression import zstd
except ImportError:
    from backports import zstd

FLAGS = BodyFlags(model="gpt-5")


@pytest.fixture
def write(tmp_path):
    def write(data, name="in.jsonl"):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def row(name, text="x"):
    return json.dumps({"custom_id": name, "prompt": text})


def invariants(source: Checked):
    """Every row has one key, is good or bad, and is found by its key where it stands."""
    keys = dict(enumerate(source.all_keys()))
    assert list(keys) == list(range(len(source)))
    assert len(set(keys.values())) == len(source) == source.report.rows
    good = {ordinal: one.key for ordinal, one in enumerate(source.rows()) if one.problem is None}
    bad = {ordinal: one.key for ordinal, one in rejected(source)}
    assert not good.keys() & bad.keys()
    assert good | bad == keys
    assert len(bad) == source.report.problems.total
    assert sum(share.rows for share in source.report.shares.values()) == len(good)
    assert {source.ordinal_of(key): key for key in keys.values()} == keys
    assert source.ordinal_of("nobody has this id") is None
    for ordinal in good:
        assert json.loads(source.body(ordinal).body)["model"]
        assert not source.is_bad(ordinal)
    for ordinal, one in rejected(source):
        assert source.is_bad(ordinal)
        assert f":{source.line_of(ordinal)}: " in one.problem.message
        with pytest.raises(ValueError, match="was rejected"):
            source.body(ordinal)
    found_again(source)


def found_again(source: Checked):
    """By keys and hashes, in whatever order these come, every row is found as it is read, the changed ones too."""
    rows = {one.key: (ordinal, one) for ordinal, one in enumerate(source.rows())}
    sent = {key: one.row_sha256 for key, (_, one) in rows.items()}
    for keys in (list(rows), list(rows)[::-1], [*list(rows)[1::2], "nobody has this id", *list(rows)[::2]]):
        found = source.find_all((key, sent.get(key, "0")) for key in keys)
        assert sorted(found) == sorted((key, ordinal) for key, (ordinal, _) in rows.items())
        assert not found.changed
        for key, ordinal in found:
            if (about := source.about(ordinal)) is not None:
                assert Row(key, about, sent[key]) == rows[key][1]
        found = source.find_all((key, "0" * 32) for key in keys)
        assert sorted(found.changed) == sorted(found) == sorted((key, ordinal) for key, (ordinal, _) in rows.items())


def rejected(source: Checked):
    return [(ordinal, one) for ordinal, one in enumerate(source.rows()) if one.problem is not None]


def checked(path, **options):
    source = check(path, FLAGS, **options)
    invariants(source)
    return source


def bad(source):
    return [(source.line_of(ordinal), one.problem.code) for ordinal, one in rejected(source)]


def keys(source):
    return list(source.all_keys())


def test_i01_an_empty_input_has_no_rows(write):
    assert len(checked(write(""))) == 0


def test_i02_blank_lines_are_skipped_and_numbers_stay_true(write):
    source = checked(write(f"\n \n{row('a')}  \n\t\r\n\n{row('b')}\n{{\n\n\n{row('c')}\n\n"))
    assert keys(source)[:2] == ["a", "b"]
    assert [source.line_of(n) for n in range(4)] == [3, 6, 7, 10]
    assert bad(source) == [(7, "invalid_json")]
    assert source.report.blank_lines == 7


def test_blank_lines_never_reach_the_parser(write, monkeypatch):
    admitted = []
    real = RowParser.admit

    def admit(self, line):
        admitted.append(line)
        return real(self, line)

    monkeypatch.setattr(RowParser, "admit", admit)
    source = check(write("\n" * 500 + " \t\r\n" * 500 + row("a") + "\n" * 500 + "x"))
    assert (source.report.blank_lines, admitted) == (1499, [row("a").encode(), b"x"])
    assert [source.line_of(n) for n in range(2)] == [1001, 1501]


def test_rows_know_their_token_cap_also_without_being_read_again(write):
    def lines(count, name="max_output_tokens"):
        return "".join(f'{{"model": "m", "input": "{n}", "{name}": {n}}}\n' for n in range(count))

    source = checked(write(lines(3) + '{"model": "m", "messages": [1], "max_tokens": 7, "max_completion_tokens": 8}\n'))
    assert [row.about.token_cap for row in source.rows()] == [0, 1, 2, 8]
    assert [source.about(ordinal).token_cap for ordinal in range(4)] == [0, 1, 2, 8]
    assert [row.about.token_cap for row in source.rows(tokens=True)] == [0, 1, 2, 8]
    alike = [row.about for row in checked(write('{"model": "m", "input": "x", "max_tokens": 900}\n' * 9)).rows()]
    assert all(about is alike[0] for about in alike), "rows with the same cap share what is kept of them"
    many = checked(write(lines(300)))
    assert [row.about.token_cap for row in many.rows()] == list(range(300))
    abouts = [many.about(ordinal) for ordinal in range(300)]
    assert [about and about.token_cap for about in abouts] == [*range(255), *[None] * 45], (
        "the rare ones are read again"
    )


def test_rows_know_the_window_that_they_ask_for_also_without_being_read_again(write):
    body = {"model": "m", "input": "x"}
    windows = [{}, {"background_options": {"completion_window": "2h"}}, {"background_options": {"completion_window": "soonest"}}]  # fmt: skip
    odd = [{"background_options": value} for value in (None, "2h", [], {"completion_window": 2}, {})]
    lines = [json.dumps({"custom_id": str(n), "body": body | one}) + "\n" for n, one in enumerate([*windows, *odd])]
    source = checked(write("".join(lines).encode()))
    expected = [0.0, 7200.0, *[0.0] * 6]
    assert [row.about.window for row in source.rows()] == expected
    assert [(source.about(n) or source.row(n).about).window for n in range(8)] == expected
    flags = BodyFlags.read(None, ['background_options={"completion_window": "8h"}'])
    by_flag = check(write("".join(lines).encode()), flags)
    assert [row.about.window for row in by_flag.rows()] == [28_800.0] * 8
    assert [(by_flag.about(n) or by_flag.row(n).about).window for n in range(8)] == [28_800.0] * 8


def test_i03_the_last_row_needs_no_newline(write):
    assert keys(checked(write(f"{row('a')}\n{row('b')}"))) == ["a", "b"]


def test_i04_crlf_is_read_as_lf(write):
    source = checked(write(f"{row('a')}\r\n{row('b')}\r\n"))
    assert keys(source) == ["a", "b"]
    assert source.body(1).body.endswith(b'"input":"x"}')


def test_i05_a_byte_order_mark_is_ignored(write):
    source = checked(write(b"\xef\xbb\xbf" + f"{row('a')}\n{row('b')}".encode()))
    assert keys(source) == ["a", "b"]
    assert bad(checked(write(f"{row('a')}\n\ufeff{row('b')}"))) == [(2, "invalid_json")]


@pytest.mark.parametrize(
    ("encoding", "seen"),
    [
        ("utf-16", "UTF-16 (little endian)"),
        ("utf-16-be", "UTF-16 (big endian)"),
        ("utf-16-le", "UTF-16 (little endian)"),
        ("utf-32", "UTF-32 (little endian)"),
        ("utf-32-be", "UTF-32 (big endian)"),
    ],
)
def test_i06_another_encoding_is_named(write, encoding, seen):
    for data in (row("a").encode(encoding), gzip.compress(row("a").encode(encoding))):
        with pytest.raises(InputRefused, match="expected UTF-8") as error:
            check(write(data))
        assert seen in str(error.value)


def test_i07_invalid_utf8_is_one_row(write):
    assert bad(checked(write(row("a").encode() + b'\n{"prompt": "\xff"}\n'))) == [(2, "invalid_utf8")]


def test_i11_doubled_keys_are_warned_of(write):
    lines_ = [
        '{"prompt": "\\u0022 says \\"input\\"", "custom_id": "a"}',
        '{"prompt": "x", "prompt": "y", "custom_id": "b"}',
        '{"body" :{"input":[{"a" :1,"a":2}]},"custom_id":"c"}',
        '{"prompt": "x", "prompt": "y"}',
    ]
    source = checked(write("\n".join(lines_)))
    assert [(one.line, one.code, one.message.split()[0]) for one in source.report.warnings.first] == [
        (2, "duplicate_key", "'prompt'"),
        (3, "duplicate_key", "'a'"),
        (4, "duplicate_key", "'prompt'"),
    ]
    assert source.body(1).body.endswith(b'"input":"y"}')


def test_i12_a_doubled_id_names_both_lines(write):
    source = checked(write(f"{row('a')}\n\n{row('b')}\n{row('a', 'y')}\n{row('a', 'z')}\n"))
    assert bad(source) == [(4, "duplicate_id"), (5, "duplicate_id")]
    (_, one), (_, two) = rejected(source)
    assert "in.jsonl:4: custom_id 'a' is already used on line 1" in one.problem.message
    assert "is already used on line 1" in two.problem.message
    assert two.key == f"{one.key}-2"
    assert source.ordinal_of("a") == 0


def test_i12_a_bad_row_keeps_its_id_and_the_later_one_is_doubled(write):
    text = '{"custom_id": "a", "method": "GET", "prompt": "x"}'
    source = checked(write(f"{text}\n{row('a')}\n{text}\n"))
    assert bad(source) == [(1, "invalid_method"), (2, "duplicate_id"), (3, "invalid_method")]
    assert keys(source)[0] == "a"


def test_i13_an_integer_id_is_its_decimal_text(write):
    ids = ["1", "0", "-7", "18446744073709551615", '"2"', '"01"']
    source = checked(write("\n".join(f'{{"custom_id": {one}, "prompt": "x"}}' for one in ids)))
    assert keys(source) == ["1", "0", "-7", "18446744073709551615", "2", "01"]
    assert json.loads(source.body(0).body).keys() == {"input", "model", "background", "store"}
    source = checked(
        write('{"custom_id": 1, "prompt": "x"}\n{"custom_id": "1", "prompt": "y"}\n{"custom_id": 1, "input": "z"}')
    )
    assert bad(source) == [(2, "duplicate_id"), (3, "duplicate_id")]
    assert "custom_id '1' is already used on line 1" in rejected(source)[0][1].problem.message


def test_i14_normal_forms_are_two_rows(write):
    forms = ["\u00e9", "e\u0301"]
    assert keys(checked(write("\n".join(map(row, forms))))) == forms


def test_i15_a_long_line_is_rejected_without_being_held(write):
    long = row("long", "y" * 3_000_000)
    source = checked(write(f"{row('a')}\n{long}\n{row('b')}\n{long}\n{long}"), max_row=1000)
    assert bad(source) == [(2, "row_too_large"), (4, "row_too_large"), (5, "row_too_large")]
    assert keys(source)[0] == "a"
    assert source.report.problems.first[0].message == (
        "expected at most 1,000 bytes, got more: raise ",
        Option("max_row"),
    )
    exact = row("a", "y" * (1000 - len(row("a", ""))))
    assert bad(checked(write(f'{exact}\n{exact[:-2]}y"}}'), max_row=1000)) == [(2, "row_too_large")]
    assert max(len(line) for _, line in lines([b"x" * 999, b"x" * 999, b"\nx"], 10)) == 11


def test_i20_unicode_line_separators_do_not_end_a_line(write):
    assert (
        len(checked(write(row("a", "x\u2028y\u0085z\x0b").replace("\\u2028", "\u2028").replace("\\u0085", "\u0085"))))
        == 1
    )


def test_i28_a_repaired_row_keeps_its_key(write):
    before = checked(write('{"custom_id": "a", "method": "GET", "prompt": "x"}'))
    after = checked(write(row("a"), "mended.jsonl"))
    assert keys(before) == keys(after) == ["a"]


@pytest.mark.parametrize("kind", ["folder", "missing", "unreadable", "device"])
def test_f01_what_cannot_be_read_is_named(write, tmp_path, kind, monkeypatch):
    path = {"folder": tmp_path, "missing": tmp_path / "no.jsonl", "device": Path("/dev/zero")}.get(kind)
    if path is None:
        path = write("")
        real = os.open

        def refusing(name, *rest, **options):  # root reads everything, so permission is taken away here
            if name == path:
                raise PermissionError(13, "Permission denied")
            return real(name, *rest, **options)

        monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(InputFileError, match=str(path)):
        check(path)


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


def test_f01_a_refusal_leaves_no_descriptor_open(write, tmp_path):
    before = open_descriptors()
    for refused in (tmp_path, write(row("a").encode("utf-16")), write(gzip.compress(b"x" * 100)[:-9], "cut.gz")):
        with pytest.raises(InputRefused):
            check(refused, spool=tmp_path / "out.input")
    with check(write(row("a"))) as source:
        source.close()
    assert open_descriptors() == before
    assert not list(tmp_path.glob("out.*"))


def fed(path, data):
    def feed():
        with path.open("wb", buffering=0) as pipe:
            for at in range(0, len(data), 1000):
                pipe.write(data[at : at + 1000])

    thread = threading.Thread(target=feed)
    thread.start()
    return thread


def test_f02_a_pipe_is_spooled(tmp_path):
    data = "".join(f"{row(f'r{n}', 'y' * n)}\n" for n in range(300)).encode()
    pipe, spool = tmp_path / "pipe", tmp_path / "out.jsonl.input"
    os.mkfifo(pipe)
    spool.write_text("of an earlier run")
    (tmp_path / "out.jsonl.input.0badcafe.new").symlink_to(tmp_path / "victim")
    feeder = fed(pipe, data)
    source = checked(pipe, spool=spool)
    feeder.join()
    assert spool.read_text() == "of an earlier run"
    source.keep()
    assert spool.read_bytes() == data
    assert spool.stat().st_mode & 0o777 == 0o600
    assert keys(source) == [f"r{n}" for n in range(300)]
    source.close()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"out.jsonl.input", "out.jsonl.input.0badcafe.new", "pipe"}, "a link is not ours to judge"


def test_copies_of_one_input_do_not_meet(tmp_path):
    target = tmp_path / "out.input"
    dead = tmp_path / "out.input.00000000.new"
    dead.write_text("left by a run that died")
    copies = [Spool(target) for _ in range(3)]
    for number, copy in enumerate(copies):
        copy.write(b"%d" % number)
    copies[0].keep()
    assert (target.read_text(), dead.exists(), len(list(tmp_path.iterdir()))) == ("0", False, 3)
    copies[1].close()
    assert (target.read_text(), len(list(tmp_path.iterdir()))) == ("0", 2)
    (own,) = tmp_path.glob("*.new")
    own.unlink()
    own.write_text("another program's")
    with pytest.raises(SpoolFailed, match="removed by another program: run the same command again"):
        copies[2].keep()
    copies[2].close()
    copies[0].close()
    assert (target.read_text(), own.read_text()) == ("0", "another program's")


def test_f02_a_descriptor_is_spooled_and_an_unkept_copy_is_gone(tmp_path):
    read, write_ = os.pipe()
    os.write(write_, row("a").encode())
    os.close(write_)
    source = checked(read, spool=tmp_path / "out.input")
    assert source.name == "standard input"
    source.close()
    os.close(read)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["symlink", "folder"])
def test_f02_a_spool_follows_nothing(write, tmp_path, kind):
    spool = tmp_path / "out.input"
    if kind == "symlink":
        spool.symlink_to(write("keep me", "victim"))
    else:
        spool.mkdir()
    with pytest.raises(SpoolFailed, match="not a regular file"):
        check(write(gzip.compress(row("a").encode())), spool=spool)


def test_f02_a_spool_that_cannot_be_written_or_synced_says_so(write, tmp_path, monkeypatch):
    with pytest.raises(SpoolFailed, match="no such file"):
        check(write(gzip.compress(b"{}")), spool=tmp_path / "none" / "out.input")

    def failing(fd):
        raise OSError(5, "Input/output error")

    spool = Spool(tmp_path / "out.input", sync=failing)
    spool.write(b"x")
    with pytest.raises(SpoolFailed, match="input/output error"):
        spool.keep()
    spool.close()
    assert not (tmp_path / "out.input").exists()
    monkeypatch.setattr(os, "write", lambda fd, data: failing(fd))
    with pytest.raises(SpoolFailed, match="cannot keep the input"):
        check(write(gzip.compress(b"{}")), spool=tmp_path / "out.input")
    assert not list(tmp_path.glob("out.*"))


def test_f03_a_compressed_input_is_not_its_own_copy(write):
    path = write(gzip.compress(row("a").encode()), "out.jsonl.input")
    with pytest.raises(InputRefused, match="is the copy of the input that the batch keeps"):
        check(path, spool=path)
    plain = write(row("a"), "out.jsonl.input")
    assert len(checked(plain, spool=plain)) == 1


COMPRESS = {"gz": gzip.compress, "zst": zstd.compress}


@pytest.mark.parametrize("kind", COMPRESS)
def test_f04_compressed_input_is_read(write, tmp_path, kind):
    data = "".join(f"{row(f'r{n}')}\n" for n in range(20_000)).encode()
    half = len(data) // 2
    for name, packed in [
        ("one", COMPRESS[kind](data)),
        ("two", COMPRESS[kind](data[:half]) + COMPRESS[kind](data[half:])),
    ]:
        source = check(write(packed, name), FLAGS, spool=tmp_path / "out.input")
        source.keep()
        assert (len(source), source.report.size) == (20_000, len(data))
        assert (tmp_path / "out.input").read_bytes() == data
        assert source.ordinal_of("r19999") == 19_999
    invariants(check(write(COMPRESS[kind](data[:3000])), FLAGS))


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("ends", [True, False], ids=["ended", "not ended"])
def test_i30_no_more_of_a_long_line_is_spooled_than_tells_that_it_is_too_long(write, tmp_path, kind, ends):
    limit = 100_000
    exact = row("exact", "y" * (limit - len(row("exact", ""))))
    parts = [row("a"), "", row("long", "y" * 9_000_000), exact, f"{exact} ", row("b"), row("c", "z" * 3_000_000)]
    data = "\n".join(parts) + "\n" * ends
    with check(write(data, "plain"), FLAGS, max_row=limit) as plain:
        expected = [(one.key, one.problem and one.problem.code) for one in plain.rows()]
        assert [problem for _, problem in expected] == [None, *["row_too_large", None] * 2, "row_too_large"]
        lines_of = [plain.line_of(n) for n in range(len(plain))]
    packed = COMPRESS[kind](data.encode())
    assert len(packed) < 30_000
    source = checked(write(packed), spool=tmp_path / "out.input", max_row=limit)
    assert [(one.key, one.problem and one.problem.code) for one in source.rows()] == expected
    assert [source.line_of(n) for n in range(len(source))] == lines_of
    source.keep()
    assert (tmp_path / "out.input").stat().st_size < 5 * limit
    assert source.report.size == (tmp_path / "out.input").stat().st_size


@pytest.mark.parametrize("kind", COMPRESS)
def test_i30_a_line_that_does_not_end_is_refused_while_it_is_read(write, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(sys.modules[lines.__module__], "MOST_CUT", 1_000_000)
    read = []
    real = opening._read

    def counted(*arguments):
        read.append(len(block := real(*arguments)))
        return block

    monkeypatch.setattr(opening, "_read", counted)
    packed = COMPRESS[kind](f"{row('a')}\n\n".encode() + b"x" * 50_000_000)
    path = write(packed, f"in.jsonl.{kind}")
    with pytest.raises(InputRefused) as refused:
        check(path, FLAGS, spool=tmp_path / "out.input", max_row=1000)
    assert str(refused.value) == (
        f"{path}:3: expected lines of at most 1,000 bytes, found one of more than 1,001,000; "
        "cut it out, or raise --max-row"
    )
    assert sum(read) < 1_200_000
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", COMPRESS)
def test_f04_cut_off_input_stops_with_the_row(write, kind):
    data = "".join(f"{row(f'r{n}')}\n" for n in range(2_000)).encode()
    path = write(COMPRESS[kind](data)[:-5], f"in.jsonl.{kind}")
    with pytest.raises(InputRefused, match=r"is cut off: copy it again \(it ends within line \d"):
        check(path)
    with pytest.raises(InputRefused, match=r"within line 1\)"):
        check(write(COMPRESS[kind](data)[:12], "x"))
    with pytest.raises(InputRefused, match="is empty"):
        check(write(b"", f"empty.{kind}"))


@pytest.mark.parametrize("kind", COMPRESS)
def test_f04_damaged_input_is_refused(write, kind):
    packed = bytearray(COMPRESS[kind](os.urandom(5000).hex().encode()))
    packed[len(packed) // 2] ^= 0xFF
    packed[-2] ^= 0xFF
    with pytest.raises(InputRefused, match=r"damaged|cut off"):
        check(write(bytes(packed)))


def test_f04_zst_without_its_library_names_the_extra(write, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "backports.zstd", None)
    monkeypatch.setitem(__import__("sys").modules, "backports", None)
    monkeypatch.setitem(__import__("sys").modules, "compression", None)
    with pytest.raises(InputRefused, match=r"pip install 'batchrun-jobs\[zst\]'"):
        check(write(zstd.compress(b"{}")))


def test_f05_a_file_cut_while_it_is_checked(write, monkeypatch):
    path = write(f"{row('a')}\n" * 20_000)
    real = os.pread

    def cutting(fd, size, at):
        data = real(fd, size, at)
        os.truncate(path, 300_000)
        return data

    monkeypatch.setattr(os, "pread", cutting)
    with pytest.raises(InputChanged, match="was cut while it was read: expected"):
        check(path)


def test_f05_a_file_cut_or_changed_after_the_check(write):
    path = write("".join(f"{row(f'r{n}')}\n" for n in range(5_000)))
    with check(path, FLAGS) as source:
        assert source.body(4_999).body
        with path.open("r+b") as file:
            file.seek(path.read_bytes().index(b"r2500"))
            file.write(b"R")
        with pytest.raises(InputChanged, match=r"in.jsonl:2501: the line changed"):
            source.body(2_500)
        assert source.body(2_499).body
        read = []
        with pytest.raises(InputChanged, match=":2501: "):
            read.extend(ordinal for ordinal, _ in enumerate(source.rows()))
        assert read == list(range(2_500))
        os.truncate(path, 1000)
        for ordinal in (4_000, 4_999):
            with pytest.raises(InputChanged, match=f":{ordinal + 1}: "):
                source.body(ordinal)
        assert [one.key for one, _ in zip(source.rows(3), range(2), strict=False)] == ["r3", "r4"]


def test_f05_what_is_appended_meanwhile_is_for_the_next_run(write):
    path = write(f"{row('a')}\n{row('b')}")
    source = check(path, FLAGS)
    with path.open("a") as file:
        file.write(f"\n{row('c')}\n")
    invariants(source)
    assert keys(source) == ["a", "b"]


def test_a_replaced_file_is_read_as_it_was(write, tmp_path):
    path = write(row("a"))
    source = check(path, FLAGS)
    write(row("other"), "new").rename(path)
    assert keys(source) == ["a"]


def test_alike_rows_are_counted(write):
    same = ['{"prompt": "x", "model": "m"}', '{"model":"m","prompt":"x"}']
    source = checked(write("\n".join([same[0], row("a"), same[1], *same * 40])))
    first = keys(source)[0]
    assert keys(source) == [first, "a", *(f"{first}-{n}" for n in range(2, 83))]
    taken = json.dumps({"custom_id": f"{first}-2", "prompt": "y"})
    source = checked(
        write("\n".join([taken, same[0], same[1], same[0], json.dumps({"custom_id": first, "prompt": "z"})]))
    )
    assert keys(source)[:4] == [f"{first}-2", first, f"{first}-3", f"{first}-4"]
    assert bad(source) == [(5, "duplicate_id")]


ROWS = st.sampled_from(
    [
        '{"prompt": "x"}',
        '{"prompt":"x"}',
        '{"prompt": "y"}',
        '{"custom_id": "a", "prompt": "x"}',
        '{"custom_id": "a", "prompt": "y"}',
        '{"custom_id": "b", "method": "GET", "prompt": "x"}',
        '{"custom_id": "b", "prompt": "x"}',
        '{"custom_id": "row-9d2f7e2d12c3c5e1e4dd8be5", "prompt": "x"}',
        '{"custom_id": 1, "prompt": "x"}',
        "{",
        "[]",
        "",
        "  ",
        "\r",
        '{"prompt": "' + "long" * 100 + '"}',
    ]
)


@settings(deadline=None)
@given(st.lists(ROWS, max_size=30), st.sampled_from([hash, lambda key: len(key) % 3, lambda key: 5]))
@example(['{"prompt": "x"}'] * 5 + ["{"] * 5, lambda key: 0)
def test_keys_are_exact_even_where_every_hash_collides(tmp_path_factory, rows, mark):
    path = tmp_path_factory.getbasetemp() / "collide.jsonl"
    path.write_text("\n".join(rows))
    with check(path, FLAGS, mark=mark, max_row=300) as source, check(path, FLAGS, max_row=300) as honest:
        invariants(source)
        assert keys(source) == keys(honest)
        assert bad(source) == bad(honest)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=12),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 99)), max_size=5),
)
def test_an_inserted_row_shifts_no_key(tmp_path_factory, texts, inserted):
    path = tmp_path_factory.getbasetemp() / "insert.jsonl"
    rows = [f'{{"prompt": "{text}"}}' for text in texts]

    def keyed():
        path.write_text("\n".join(rows))
        with check(path, FLAGS) as source:
            return {
                key: json.loads(source.body(ordinal).body)["input"] for ordinal, key in enumerate(source.all_keys())
            }

    before = keyed()
    for at, number in inserted:
        rows.insert(at, f'{{"prompt": "new {number}"}}')
        rows.insert(at, "")
    after = keyed()
    assert before.items() <= after.items()


@settings(deadline=None)
@given(st.binary(max_size=300))
@example(b"\x1f\x8b")
@example(b"\x28\xb5\x2f\xfd")
@example(b"\n\n{")
def test_no_bytes_raise_anything_but_a_refusal(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes.jsonl"
    path.write_bytes(data)
    try:
        with check(path, FLAGS) as source:
            invariants(source)
    except InputRefused:
        pass


@settings(deadline=None)
@given(st.lists(st.binary(max_size=8), max_size=20), st.integers(1, 12))
def test_lines_are_the_same_however_the_bytes_come(blocks, max_row):
    data = b"".join(blocks)
    pieces = data.split(b"\n")
    if not pieces[-1]:
        pieces.pop()
    offsets = [sum(len(piece) + 1 for piece in pieces[:n]) for n in range(len(pieces))]
    expected = [(at, piece[: max_row + 1]) for at, piece in zip(offsets, pieces, strict=True)]
    assert list(lines(blocks, max_row)) == expected


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 20)), st.integers(0, 5000))
def test_seen_names_the_places_of_a_mark(marks, expected):
    seen, model = KeyIndex(), {}
    seen.expect(expected)
    for mark in marks:
        fresh = seen.add(mark)
        assert fresh is (mark not in model)
        if not fresh:
            seen.put(mark)
        model.setdefault(mark, []).append(len(seen) - 1)
    for mark, places in model.items():
        assert list(seen.at(mark)) == places
    assert list(seen.at(21)) == model.get(21, [])


def test_seen_grows_and_stays_small():
    seen = KeyIndex()
    for number in range(10_000):
        assert seen.add(hash(f"row {number}"))
    assert not any(seen.add(hash(f"row {number}")) for number in range(10_000))
    assert len(seen._slots) * seen._slots.itemsize <= 12 * len(seen)


def test_the_report_is_bounded(write):
    rows = [json.dumps({"body": {"model": f"model-{n}", "stream": True}, "custom_id": str(n)}) for n in range(1_500)]
    report = checked(write("\n".join([*rows, *["{"] * 100]))).report
    assert (report.rows, report.problems.by_code, report.warnings.by_code) == (
        1_600,
        {"invalid_json": 100},
        {"stream_overridden": 1_500},
    )
    assert len(report.problems.first) == len(report.warnings.first) == 20
    assert len(report.shares) == 1_001


def test_a_field_that_no_endpoint_has_is_warned_of_once(write):
    labelled = [json.dumps({"prompt": str(n), "label": n, "model": "m"}) for n in range(50)]
    others = [
        json.dumps(
            {"custom_id": str(n), "body": {"messages": [], "label": n, "topk": 1}, "url": "/v1/chat/completions"}
        )
        for n in range(50)
    ]
    rows = ['{"prompt": "x"}', *labelled, *others, '{"prompt": 5}', '{"prompt": 6, "label": 1}']
    report = checked(write("\n".join(rows))).report
    assert report.problems.total == 0
    assert report.warnings.by_code == {"unknown_body_field": 3, "odd_prompt": 2}
    assert [(one.line, one.message.partition(",")[0]) for one in report.warnings.first] == [
        (2, "unknown field 'label' of /responses"),
        (52, "unknown field 'label' of /chat/completions"),
        (52, "unknown field 'topk' of /chat/completions"),
        (102, "expected a string as prompt"),
        (103, "expected a string as prompt"),
    ]


def test_fields_with_ever_new_names_are_warned_of_a_thousand_times_and_no_more(write):
    rows = [json.dumps({"prompt": "x", f"field-{n}": 1}) for n in range(1_500)]
    source = checked(write("\n".join(rows)))
    assert source.report.warnings.by_code == {"unknown_body_field": 1_000}
    assert len(source.report.warnings.first) == 20


def test_rows_carry_what_the_engine_needs(write):
    source = checked(
        write('{"body": {"input": "x", "model": "m"}, "metadata": {"a": 1.0}, "custom_id": "a"}\n{"prompt": "x"}')
    )
    one, two = source.rows()
    assert (one.key, one.about.model, one.about.metadata) == ("a", "m", b'{"a": 1.0}')
    assert (two.about.model, two.about.metadata) == ("gpt-5", None)
    assert [row.key for row in source.rows(1)] == [two.key]
    assert source.row(1) == two
    assert {row.about.tokens for row in source.rows()} == {0}
    assert min(row.about.tokens for row in source.rows(tokens=True)) > 0
    assert repr(source).endswith("in.jsonl: 2 rows, 0 bad>")
