"""Entries to bytes and back; and that no truncation, no flipped bit, no lost page becomes a wrong fact."""

import dataclasses
import operator

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.journal.entries import (
    VERSION,
    AttemptEnded,
    Cancelling,
    Cleared,
    Done,
    Header,
    Intent,
    PollAgain,
    RequestsAccepted,
    Rewrite,
    Rewritten,
    Started,
    Stopped,
    Submitted,
    Unconfirmed,
    frame,
    mark,
    read_line,
)  # fmt: skip
from batchrun.core.journal.fold import Folding, JournaledRow, fold
from batchrun.core.journal.recover import recover

HEADER = Header(1, "run", "openai", "https://api.openai.com/v1", "", "f00d", {}, "in.jsonl", 1.0)
ENTRIES = [
    HEADER,
    Started(7, 1.0, 2),
    Intent("a", 1, "sha", 2.0),
    Intent("b", 1, "sha", 2.0),
    Submitted("a", 1, "resp_a", 3.0),
    AttemptEnded("a", 1, "resp_a", "internal_error", "server_error", "unknown", 9.0, 4.0),
    Cleared("b", 1, 4.5),
    Intent("a", 2, "sha", 9.0),
    Unconfirmed("a", 2, 10.0),
    Intent("b", 1, "sha", 10.0),
    Submitted("b", 1, "resp_b", 11.0),
    Cancelling("b", 1, "user", 12.0),
    RequestsAccepted(77, all=False),
    Done("b", 0, 0, 10, 99, "succeeded"),
    Rewrite(1, {"a": {"state": "failed", "job_id": None, "code": None, "billing": "unknown"}}),
    PollAgain("b", 1, "failed"),
    Rewritten(1, 2, 1),
    Stopped("SIGTERM", 20.0, "quota: no more"),
]


def facts(journaled_rows):
    return {
        key: tuple(getattr(journaled, name) for name in JournaledRow.__slots__)
        for key, journaled in journaled_rows.items()
    }


def lines_of(data):
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.tag)
def test_an_entry_survives_the_way_to_the_disk_and_back(entry):
    line = entry.to_line()
    tag, values = read_line(line)
    assert (tag, type(entry)(**values)) == (entry.tag, entry)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1


def test_the_format_is_what_protocol_says():
    assert mark(1234) == b"%08x " % __import__("zlib").crc32(b'{"synced":{"to":1234}}') + b'{"synced":{"to":1234}}\n'


@pytest.mark.parametrize(
    "spelling", [str.upper, lambda crc: "0x" + crc[2:], lambda crc: crc[:4] + "_" + crc[5:], lambda crc: " " + crc[1:]]
)
def test_a_crc_has_one_spelling(spelling):
    line = frame(b'{"started":{"pid":1,"at":1.0}}')
    crc = line[:8].decode()
    altered = spelling(crc).encode() + line[8:]
    assert altered == line or read_line(altered) is None


def test_the_fold_of_a_whole_journal():
    state = fold([entry.to_line() for entry in ENTRIES])
    a, b = state.journaled_rows["a"], state.journaled_rows["b"]
    assert (a.attempt, a.unconfirmed, a.open_intent, a.job_id, len(a.ended)) == (2, True, False, None, 1)
    assert (b.job_id, b.cancel, b.marker, b.submitted_at) == ("resp_b", "user", (0, 0, 10, 99, "succeeded"), 11.0)
    assert (state.accepted, state.retries, state.gen, state.header, state.torn, state.corrupt) == (
        2,
        1,
        1,
        HEADER,
        False,
        False,
    )
    assert (state.stopped, state.started) == (ENTRIES[-1], ENTRIES[1])


@pytest.mark.parametrize(
    "line",
    [
        Submitted("a", 1, "../x", 1.0).to_line(), Submitted("a", 1, "a/b", 1.0).to_line(), frame(b'{"submitted":{"key":"a"}}'),
        HEADER.to_line(), frame(b'{"unheard_of":[]}'), frame(b"[]"), frame(b'{"a":1}'), frame(b'{"a":{},"b":{}}'), frame(b"x"),
        frame(b'{"intent":{"key":["a"],"attempt":1,"row_sha256":"","at":1}}'), b"\x00" * 40 + b"\n", b"\n",
    ],
)  # fmt: skip
def test_what_cannot_follow_is_a_bad_line(line):
    state = fold([HEADER.to_line(), Intent("a", 1, "s", 1.0).to_line(), line, Cleared("a", 1, 2.0).to_line()])
    assert state.torn
    assert state.good_to == len(HEADER.to_line()) + len(Intent("a", 1, "s", 1.0).to_line())
    assert state.journaled_rows["a"].open_intent, "nothing after a bad line counts"


@pytest.mark.parametrize("json", [
    b'{"header":{"version":2,"run_id":"run","of_tomorrow":true}}',
    b'{"header":{"version":2,"run_id":"run","service":"openai","origin":"o","account":"","key_fingerprint":"","body_flags":{},"input":"i","at":1.0}}',
])  # fmt: skip
def test_o15_a_journal_of_a_newer_version_is_neither_torn_nor_corrupt_nor_believed(json):
    tomorrow = [frame(json), frame(b'{"unheard_of":{"key":"a"}}'), Intent("a", 1, "s", 1.0).to_line()]
    state = fold(tomorrow)
    assert (state.newer_version, VERSION) == (2, 1)
    assert (state.torn, state.corrupt, state.good_to) == (False, False, sum(map(len, tomorrow))), "nothing to cut"
    assert (state.header, state.journaled_rows) == (None, {})


@pytest.mark.parametrize("version", [VERSION, 0, -1, "2", None, True, 2.5])
def test_another_version_that_is_not_newer_is_no_newer_version(version):
    line = frame(orjson.dumps({"header": {"version": version}}))
    assert (fold([line]).newer_version, fold([line]).torn) == (None, True)


def test_a_journal_without_a_header_holds_nothing():
    assert fold([Intent("a", 1, "s", 1.0).to_line()]).journaled_rows == {}
    assert fold([]).header is None


# --- truncation, bits, pages ---


def journal(groups):
    """Groups of entries as the tape writes them; returns the bytes and the offset behind each entry."""
    data, ends = b"", []
    for group in groups:
        data += mark(len(data)) if data else b""
        for entry in group:
            data += entry.to_line()
            ends.append(len(data))
    return data, ends


def that_follow(groups):
    """The groups without the entries that no run could have written after the earlier ones."""
    folding = Folding()
    folding.take([HEADER.to_line()])
    kept = []
    for group in groups:
        kept.append([])
        for entry in group:
            if not folding.take([entry.to_line()]).astray:
                kept[-1].append(entry)
            folding.fold.astray.clear()
            folding._bad = None
    return [group for group in kept if group]


GROUPS = st.lists(
    st.lists(
        st.one_of(
            st.builds(Intent, st.sampled_from("abc"), st.integers(1, 3), st.just("s"), st.floats(0, 9)),
            st.builds(
                Submitted, st.sampled_from("abc"), st.integers(1, 3), st.sampled_from(["x", "y"]), st.floats(0, 9)
            ),
            st.builds(Cleared, st.sampled_from("abc"), st.integers(1, 3), st.floats(0, 9)),
            st.builds(Unconfirmed, st.sampled_from("abc"), st.integers(1, 3), st.floats(0, 9)),
            st.builds(Cancelling, st.sampled_from("abc"), st.integers(1, 3), st.just("user"), st.floats(0, 9)),
            st.builds(
                Done, st.sampled_from("abc"), st.just(0), st.integers(0, 99), st.integers(1, 9), st.integers(0, 9)
            ),
        ),
        min_size=1,
        max_size=4,
    ),
    max_size=5,
).map(that_follow)


@settings(max_examples=settings().max_examples // 4)  # each of them is cut at every byte
@given(GROUPS)
def test_any_truncation_folds_to_a_prefix(groups):
    groups = [[HEADER], *groups]
    data, ends = journal(groups)
    entries = [entry for group in groups for entry in group]
    prefixes = [facts(fold([entry.to_line() for entry in entries[:n]]).journaled_rows) for n in range(len(entries) + 1)]
    for cut in range(len(data) + 1):
        state = fold(lines_of(data[:cut]))
        whole = sum(end <= cut for end in ends)
        assert facts(state.journaled_rows) == prefixes[whole]
        assert not state.corrupt
        assert state.good_to <= cut
        again = fold(lines_of(data[: state.good_to]))
        assert (again.torn, facts(again.journaled_rows)) == (False, facts(state.journaled_rows)), (
            "what was cut is clean"
        )


def test_o14_every_flipped_bit_is_a_prefix_or_a_refusal_that_names_its_offset():
    data, _ = journal([ENTRIES[:1], ENTRIES[1:5], ENTRIES[5:9], ENTRIES[9:]])
    good = [facts(fold([entry.to_line() for entry in ENTRIES[:n]]).journaled_rows) for n in range(len(ENTRIES) + 1)]
    last_mark = data.rindex(b'{"synced"') - 9
    for i in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[i // 8] ^= 1 << i % 8
        state = fold(lines_of(bytes(flipped)))
        assert facts(state.journaled_rows) in good, "never a wrong fact"
        if i // 8 < last_mark - 1:  # up to the line before the last mark, without its line end
            assert state.corrupt, "a bad line before the mark is corruption"
            assert state.good_to == data.rfind(b"\n", 0, i // 8) + 1, "and it is named by its offset"


@given(GROUPS, st.data())
def test_an_innocent_power_cut_is_never_taken_for_corruption(groups, data):
    groups = [[HEADER], *groups]
    whole, _ = journal(groups)
    synced, _ = journal(groups[:-1])
    tail = bytearray(whole[len(synced) :])
    for page in range(0, len(tail), 16):
        if data.draw(st.booleans()):
            tail[page : page + 16] = bytes(len(tail[page : page + 16]))
    state = fold(lines_of(synced + bytes(tail)))
    assert not state.corrupt
    before = facts(fold(lines_of(synced)).journaled_rows)
    assert set(before) <= set(facts(state.journaled_rows))
    assert state.good_to >= len(synced) if len(groups) > 1 else True


# --- the output ---


def record(key):
    return orjson.dumps({"custom_id": key, "state": "succeeded", "job_id": f"job_{key}"}) + b"\n"


def trails_with_markers(keys, gen=0, crc_of=lambda line: __import__("zlib").crc32(line)):
    state, offset = fold([HEADER.to_line()]), 0
    for key in keys:
        line = record(key)
        journaled = state.journaled_rows[key] = JournaledRow()
        journaled.job_id = f"job_{key}"
        journaled.marker = (gen, offset, len(line), crc_of(line), "succeeded")
        offset += len(line)
    return state


OUTPUT = b"".join(map(record, "abc"))


def test_markers_that_fit_are_an_index():
    found = recover(trails_with_markers("abc"), OUTPUT)
    assert found.finished == dict.fromkeys("abc", "succeeded")
    assert (found.open_journaled, found.output_good_to, found.output_corrupt_at) == ({}, len(OUTPUT), None)


@pytest.mark.parametrize(
    "state",
    [trails_with_markers("abc", gen=3), trails_with_markers("abc", crc_of=lambda line: 0), trails_with_markers("cab")],
)
def test_markers_that_do_not_fit_are_forgotten_and_the_output_scanned(state):
    assert recover(state, OUTPUT).finished.keys() == set("abc")


@pytest.mark.parametrize("output", [OUTPUT[: len(OUTPUT) // 2], b"", record("a") + b'{"custom_id"'])
def test_o03_a_marker_beyond_the_output_leaves_its_row_open(output):
    found = recover(trails_with_markers("abc"), output)
    assert found.finished.keys() == ({"a"} if output else set())
    assert set(found.open_journaled) == set("abc") - found.finished.keys()
    assert found.output_good_to == (len(record("a")) if output else 0)


@pytest.mark.parametrize(
    "tail", [b'{"custom_id": "d", "sta', b"\0" * 50, b"\0" * 50 + b"\n", b"[]\n", b"{}\n", b"null\n" + record("d")]
)
def test_o12_o13_the_torn_part_begins_at_the_first_line_that_is_no_record(tail):
    found = recover(trails_with_markers("abc"), OUTPUT + tail)
    assert (found.finished, found.output_good_to, found.output_corrupt_at) == (
        dict.fromkeys("abc", "succeeded"),
        len(OUTPUT),
        None,
    )


def test_a_record_without_its_marker_is_accepted():
    assert recover(trails_with_markers("ab"), OUTPUT).finished.keys() == set("abc")
    assert recover(trails_with_markers("ac"[:1]), OUTPUT).finished.keys() == set("abc")


def test_a_bad_line_before_records_that_are_on_the_disk_is_corruption():
    state = trails_with_markers("abc")
    del state.journaled_rows["b"]
    broken = bytearray(OUTPUT)
    broken[len(record("a")) + 3] = 0
    assert recover(state, bytes(broken)).output_corrupt_at == len(record("a"))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_never_an_exception(data):
    state = fold(lines_of(data))
    recover(state, data)
    fold([HEADER.to_line(), *lines_of(data)])


def test_entries_are_values():
    assert all(dataclasses.is_dataclass(entry) and entry.__dataclass_params__.frozen for entry in ENTRIES)


def test_an_attempt_that_ended_is_unconfirmed_no_more():
    """A row that is sent again although its answer was lost has that attempt behind it, whatever crash comes next."""
    told = [
        HEADER,
        Intent("a", 1, "sha", 2.0),
        Unconfirmed("a", 1, 3.0),
        AttemptEnded("a", 1, None, "unconfirmed", None, "unknown", 4.0, 4.0),
    ]
    journaled = fold(entry.to_line() for entry in told).journaled_rows["a"]
    assert (journaled.unconfirmed, journaled.attempt, journaled.retry_at) == (False, 2, 4.0)


def test_a_rewriting_is_to_be_done_until_the_journal_says_that_it_is():
    row = {"state": "failed", "job_id": "resp_a", "code": None, "billing": "unknown"}
    announced = fold([HEADER.to_line(), Rewrite(3, {"a": row}).to_line()])
    assert (announced.gen, announced.rewrite) == (3, Rewrite(3, {"a": row}))
    done = fold([HEADER.to_line(), Rewritten(3, 7, 2).to_line()])
    assert (done.gen, done.rewrite, done.accepted, done.retries) == (3, None, 7, 2)


def test_wishes_are_heard_once_and_a_cancel_of_all_stands_until_it_is_done():
    heard = fold(entry.to_line() for entry in (HEADER, RequestsAccepted(77, all=True)))
    assert (heard.heard_to, heard.cancel_all) == (77, True)
    done = fold(entry.to_line() for entry in (HEADER, RequestsAccepted(77, all=True), RequestsAccepted(90, all=False)))
    assert (done.heard_to, done.cancel_all) == (90, False)


def test_entries_of_an_earlier_batchrun_lack_what_came_later():
    old = (b'{"started":{"pid":7,"at":1.0}}', b'{"stopped":{"reason":"SIGTERM","at":2.0}}')
    result = fold([HEADER.to_line(), *map(frame, old)])
    assert (result.torn, result.started, result.stopped) == (False, Started(7, 1.0), Stopped("SIGTERM", 2.0))


def test_a_look_that_the_user_asked_for_counts_no_retry():
    ended = AttemptEnded("a", 1, "resp_a", "failed", None, "unknown", 9.0, 4.0)
    told = [HEADER, Submitted("a", 1, "resp_a", 3.0), PollAgain("a", 1, "failed"), ended]
    assert fold(entry.to_line() for entry in told[:3]).journaled_rows["a"].again == "failed"
    result = fold(entry.to_line() for entry in told)
    assert (result.retries, result.journaled_rows["a"].again) == (0, None)


@pytest.mark.parametrize(
    "entry", [PollAgain("a", 1, "no state"), Rewrite(1, ["a"])], ids=["unknown state", "keys without their ends"]
)
def test_an_entry_of_another_making_is_a_bad_line(entry):
    assert fold([HEADER.to_line(), entry.to_line()]).torn


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.tag)
def test_a_field_that_is_unknown_here_is_ignored(entry):
    longer = entry.to_line({"of_tomorrow": {"any": ["thing"]}})
    before = [] if entry is HEADER else [HEADER.to_line()]
    plain, grown = fold([*before, entry.to_line()]), fold([*before, longer])
    assert (grown.torn, grown.corrupt, grown.good_to) == (False, False, sum(map(len, [*before, longer])))
    facts_of = operator.attrgetter("header", "accepted", "retries", "gen", "started", "stopped", "heard_to", "rewrite")
    assert (facts(grown.journaled_rows), facts_of(grown)) == (facts(plain.journaled_rows), facts_of(plain))
    assert grown.header_extras == ({"of_tomorrow": {"any": ["thing"]}} if entry is HEADER else {})


@pytest.mark.parametrize("values", [b"{}", b'{"key":"a","attempt":7,"at":2.0}'])
def test_an_entry_that_is_unknown_here_is_passed_over_and_what_follows_counts(values):
    unknown = frame(b'{"of_tomorrow":%b}' % values)
    state = fold([HEADER.to_line(), Intent("a", 1, "s", 1.0).to_line(), unknown, Cleared("a", 1, 2.0).to_line()])
    assert (state.torn, state.corrupt, state.damaged, state.unknown) == (False, False, [], 1)
    assert (state.journaled_rows["a"].attempt, state.journaled_rows["a"].open_intent) == (1, False)


@pytest.mark.parametrize("end", [slice(0, -1), slice(0, -5)], ids=["without its end", "cut off"])
def test_an_entry_that_is_unknown_here_is_torn_where_its_frame_is(end):
    state = fold([HEADER.to_line(), frame(b'{"of_tomorrow":{}}')[end]])
    assert (state.torn, state.good_to) == (True, len(HEADER.to_line()))


def test_an_entry_that_is_unknown_here_is_no_header():
    assert fold([frame(b'{"of_tomorrow":{}}'), Intent("a", 1, "s", 1.0).to_line()]).torn
