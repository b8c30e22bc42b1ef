"""What the published table promises: words may be added, and none changes what it means within a major version.

promised.txt has what each version promised. Its lines are only added to: for a new word append what the failing test
prints, after raising TAXONOMY_VERSION and naming the word in ADDED. A line is changed or removed with a new major version
of batchrun alone.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun.core.taxonomy.rules import ADDED, KINDS, TAXONOMY, TAXONOMY_VERSION, VERSIONS, WORDS, State, WordField

PROMISED = Path(__file__).with_name("promised.txt")


def lines() -> Iterator[str]:
    """The table as it is, one promise per line."""
    for rule in TAXONOMY:
        halts = "halts" if rule.halts else "-"
        yield (
            f"{rule.since} | {rule.field} | {rule.word} | {rule.kind} | {rule.sdk or '-'} | {rule.http_status} | "
            f"{rule.retry} {rule.retries} | {rule.state} | {rule.billing_reason or '-'} | {halts}"
        )
    added = {word: version for version, fields in ADDED.items() for word in fields.get(WordField.STATUS, "").split()}
    for word, group in WORDS.items():
        yield f"{added.get(word, 1)} | status word | {word} | {group}"
    for name, kind in KINDS.items():
        yield f"1 | exception | {name} | {kind.parent} | {kind.sdk or '-'} | {kind.http_status}"
    for state in State:
        yield f"1 | state | {state}"


def broken(promised, actual):
    """The promises that are not kept, and what was added without one."""
    gone = [f"no longer true: {line}" for line in promised if line not in set(actual)]
    return gone + [f"not promised: {line}" for line in actual if line not in set(promised)]


def test_every_promise_is_kept():
    promised = [line for line in PROMISED.read_text().splitlines() if not line.startswith("#")]
    assert broken(promised, list(lines())) == []
    assert len(promised) == len(set(promised)) > 200


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda line: [], "no longer true: 1 | code | slow_down"),
        (lambda line: [line.replace("yes 4", "no 0")], "no longer true: 1 | code | slow_down"),
        (lambda line: [line.replace("RateLimitError", "JobFailed")], "no longer true: 1 | code | slow_down"),
        (lambda line: [line, line.replace("slow_down", "slower_down")], "not promised: 1 | code | slower_down"),
    ],
)
def test_a_broken_promise_is_seen(change, complaint):
    found = []
    for line in lines():
        found += change(line) if " | slow_down | " in line else [line]
    assert any(one.startswith(complaint) for one in broken(list(lines()), found))


def test_what_was_added_is_in_the_table_and_of_a_version_that_says_so():
    assert list(VERSIONS) == list(range(1, TAXONOMY_VERSION + 1))
    assert ADDED.keys() <= VERSIONS.keys() - {1}
    known = {field: {rule.word for rule in TAXONOMY if rule.field is field} for field in WordField}
    known[WordField.STATUS] |= set(WORDS)
    for fields in ADDED.values():
        for field, words in fields.items():
            assert set(words.split()) <= known[field]
    assert {rule.since for rule in TAXONOMY} == {1, *ADDED}
