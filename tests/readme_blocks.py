"""The parts of the README that are printed from the code."""

import contextlib
import io
import os
from collections.abc import Iterable

from batchrun.cli import main
from batchrun.core.lifecycle import state_diagram, transition_table
from batchrun.core.states import GROUP_MEANING, STATE_MEANING, WORDS
from batchrun.core.taxonomy import TAXONOMY, TAXONOMY_VERSION, Rule


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def explain() -> str:
    shown = []
    os.environ["COLUMNS"] = "100"
    for word in ("insufficient_quota", "server_error"):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            main(["explain", word])
        shown.append(f"$ batchrun explain {word}\n{out.getvalue().rstrip()}")
    return "```console\n" + "\n\n".join(shown) + "\n```"


def states() -> str:
    return _table(["state", "meaning"], ([f"`{state}`", meaning] for state, meaning in STATE_MEANING.items()))


def words() -> str:
    rows = (
        [str(group), _codes(w for w, of in WORDS.items() if of is group), meaning]
        for group, meaning in GROUP_MEANING.items()
    )
    return _table(["group", "words", "what the runner does"], rows)


def failures() -> str:
    """Rules that differ in their word alone share a line."""
    groups: dict[tuple[object, ...], list[Rule]] = {}
    for rule in TAXONOMY:
        same = (rule.aspect, rule.kind, rule.sdk, rule.retry, rule.halts, rule.billing_reason, rule.state)
        groups.setdefault(same, []).append(rule)
    rows = [
        [
            str(first.aspect),
            _codes(rule.word for rule in rules),
            f"`{first.kind}`",
            f"`{first.sdk}`" if first.sdk else "–",
            str(first.retry) + ("; **halts the run**" if first.halts else ""),
            f"`{first.state}`",
        ]
        for first, rules in ((rules[0], rules) for rules in groups.values())
    ]
    table = _table(["where", "words", "`error.kind`", "openai SDK", "new attempt", "state"], rows)
    return f"Version {TAXONOMY_VERSION} of the taxonomy:\n\n{table}"


def lifecycle() -> str:
    return f"```mermaid\n{state_diagram()}\n```\n\n{transition_table()}"


BLOCKS = {"explain": explain, "states": states, "words": words, "failures": failures, "lifecycle": lifecycle}
