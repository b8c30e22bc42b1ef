"""The public names of `batchrun.taxonomy`: light to import, documented, and the core's own table."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import batchrun
from batchrun import taxonomy
from batchrun.core.taxonomy.explain import rules_of
from batchrun.core.taxonomy.rules import STATE_MEANING, TAXONOMY, TAXONOMY_VERSION, WORDS, WordField

ROOT = Path(__file__).parents[2]
SHOWN = "import sys; print(*sorted(name for name in sys.modules if name.startswith('batchrun') or name in {}))"
HEAVY = set("orjson asyncio httpx httpx2 anyio openai pydantic tqdm dataclasses difflib typing".split())


def loaded(code):
    """What of HEAVY, and which of our modules, a fresh process has loaded after `code`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{SHOWN.format(HEAVY)}"], env=environment, capture_output=True, text=True, check=True
    )  # fmt: skip
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import batchrun.taxonomy",
        "from batchrun.taxonomy import classify, raise_for_response, rule, rules, states, words",
        "import batchrun; batchrun.taxonomy.classify",
    ],
)
def test_importing_it_loads_nothing_else(code):
    before = loaded("")
    assert loaded(code) - before == {"batchrun", "batchrun.version", "batchrun.taxonomy"}


def test_the_table_loads_no_reader_and_a_verdict_no_runner():
    code = "from batchrun import taxonomy as t; t.rules(), t.rule('x'), t.states(), t.words(), t.VERSION, t.Verdict"
    found = loaded(code)
    assert not found & {"orjson", "asyncio", "httpx", "anyio", "openai"}
    assert not {name for name in found if name.startswith(("batchrun.runner", "batchrun.edge", "batchrun.api"))}
    found = loaded("from batchrun import taxonomy; taxonomy.classify({'status': 'failed'})")
    assert not found & {"httpx", "httpx2", "anyio", "openai", "pydantic", "tqdm"}
    rooms = (
        "batchrun.runner",
        "batchrun.edge",
        "batchrun.api",
        "batchrun.cli",
        "batchrun.core.engine",
        "batchrun.core.jobs",
    )
    assert not {name for name in found if name.startswith(rooms)}


def test_each_public_name_is_documented_and_no_other_is_there():
    assert taxonomy.__all__ == sorted(
        taxonomy.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    assert dir(taxonomy) == sorted(taxonomy.__all__)
    for name in taxonomy.__all__:
        found = getattr(taxonomy, name)
        assert name == "VERSION" or found.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'clasify'"):
        taxonomy.clasify  # noqa: B018
    assert batchrun.taxonomy is taxonomy


def test_a_verdict_has_the_facts_that_are_documented():
    fields = list(inspect.signature(taxonomy.Verdict).parameters)
    page = (ROOT / "src" / "batchrun" / "help" / "taxonomy.md").read_text()
    assert [name for name in fields if f"`{name}`" not in page] == []
    verdict = taxonomy.classify({"status": "failed"})
    with pytest.raises(AttributeError):
        verdict.state = None
    assert not hasattr(verdict, "__dict__")
    assert verdict == taxonomy.classify({"status": "failed"})


def test_the_table_is_the_cores():
    assert taxonomy.VERSION == TAXONOMY_VERSION
    assert taxonomy.rules() == TAXONOMY
    assert taxonomy.states() == STATE_MEANING
    assert taxonomy.words() == WORDS
    taxonomy.words().clear()  # type: ignore[attr-defined]
    assert taxonomy.words() == WORDS, "what is returned is the caller's"


@pytest.mark.parametrize("rule", TAXONOMY, ids=lambda rule: f"{rule.field}-{rule.word}")
def test_every_rule_is_found_by_its_word(rule):
    assert rule in rules_of(rule.word)
    found = taxonomy.rule(rule.word)
    assert found.code.lower() == rule.word.lower()
    assert found.retryable == (found.retries > 0)
    assert rule.since in range(1, TAXONOMY_VERSION + 1)


def test_a_code_comes_before_other_fields_and_an_http_status_is_a_number_too():
    assert taxonomy.rule("content_filter").field is WordField.CODE
    assert taxonomy.rule("timeout").field is WordField.CODE
    assert taxonomy.rule(429) is taxonomy.rule("429")
    assert (taxonomy.rule(418).code, taxonomy.rule(502).code) == ("4xx", "5xx")
    assert [taxonomy.rule(word) for word in ("never_heard_of", "", 200, 7)] == [None] * 4
    assert taxonomy.rule(" JOB_STATE_Timed-Out ").code == "timed_out"
