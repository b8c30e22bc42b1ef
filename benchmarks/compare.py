"""One benchmark in two checkouts, in turn: did a change make anything dearer?

    python benchmarks/compare.py --old DIR [--old-python FILE] [--new DIR] [--new-python FILE]
                                 [--rounds N] [--all] {core,polling,scale,end_to_end} …

Each round runs the old checkout, the new one, and the old one again, so that a machine that grows slower during a
round burdens both sides alike. Compared is what costs: processor time where a benchmark prints it (`cpu_us`),
microseconds, bytes and polls where it prints those, and the processor time of the whole command with all its
processes. `--all` adds what depends on how busy the machine is (seconds, milliseconds, rates).

`ratio` is the median over the rounds of new / mean of both old; below 1 the new one is cheaper. `old/old` is the
range, over the rounds, of the second old run against the first: a ratio within it says nothing. Nothing is written
into either checkout but byte code and the comparison's own lines in results.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.results import record  # noqa: E402 - runs from a checkout as well

_OURS_ALONE = (  # without the clients that the runner is otherwise compared with
    "import sys; sys.path[:0] = ['.', 'src']; from benchmarks import polling; "
    "polling.OTHERS = (); raise SystemExit(polling.main(['--quick']))"
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "core": ("benchmarks/core.py", "--quick"),
    "polling": ("-c", _OURS_ALONE),
    # at one rate: left to itself each side would choose its own, and do other work
    "scale": ("benchmarks/scale.py", "--sizes", "1k,10k", "--rate", "2000", "--seconds", "2"),
    "end_to_end": ("benchmarks/end_to_end.py", "--quick"),
}
COSTS = ("µs", "bytes", "looks", "polls")
WHOLE = "processor time of all its processes"


@dataclass(frozen=True, slots=True)
class Figure:
    """One printed figure of one run."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Round:
    """One figure as a round measured it."""

    old: float
    new: float
    old_again: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the rounds of one figure amount to; ratios are new to old."""

    old: float
    new: float
    ratio: float
    lowest: float
    highest: float
    old_lowest: float
    old_highest: float

    @property
    def tells(self) -> bool:
        """Whether the ratio lies outside what two runs of the same code differ by."""
        return not self.old_lowest <= self.ratio <= self.old_highest


def compared(rounds: Sequence[Round]) -> Comparison:
    """The medians of both sides, the median ratio within a round, and the ranges of the ratios."""
    ratios = [_ratio(one.new, (one.old + one.old_again) / 2) for one in rounds]
    noise = [_ratio(one.old_again, one.old) for one in rounds]
    return Comparison(
        old=statistics.median(value for one in rounds for value in (one.old, one.old_again)),
        new=statistics.median(one.new for one in rounds),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        # both ways round: which of the two old runs came first is chance
        old_lowest=min(*noise, *(_ratio(1, one) for one in noise)),
        old_highest=max(*noise, *(_ratio(1, one) for one in noise)),
    )


def _ratio(one: float, other: float) -> float:
    """`one` to `other`; two figures of zero are alike."""
    if other:
        return one / other
    return 1.0 if not one else float("inf")


def figures_of(printed: str, cpu: float, *, everything: bool = False) -> list[Figure]:
    """The figures that one run printed, one JSON object a line, and `cpu`, the seconds that it took."""
    found = []
    for line in printed.splitlines():
        result: dict[str, Any] = json.loads(line)
        if "cpu_us" in result:
            found.append(Figure(f"{result['name']}, processor time", float(result["cpu_us"]), "µs"))
        elif result["unit"] in COSTS:
            found.append(Figure(result["name"], float(result["value"]), result["unit"]))
            continue
        if everything and result["unit"] != "ratio":
            found.append(Figure(result["name"], float(result["value"]), result["unit"]))
    return [*found, Figure(WHOLE, cpu, "s")]


def paired(old: Sequence[Figure], new: Sequence[Figure], again: Sequence[Figure]) -> list[tuple[Figure, Round]]:
    """A benchmark prints its figures in one order; their names may have changed, then the new one counts."""
    units = [[one.unit for one in side] for side in (old, new, again)]
    if units[0] != units[1] or units[0] != units[2]:
        raise SystemExit(f"expected the same figures of both, got {[f.name for f in old]} and {[f.name for f in new]}")
    return [(n, Round(o.value, n.value, a.value)) for o, n, a in zip(old, new, again, strict=True)]


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with `src` and `benchmarks`, and the Python that its commands are run with."""

    folder: Path
    python: str

    def run(self, command: Sequence[str], *, everything: bool) -> list[Figure]:
        kept = self.folder / "benchmarks" / "results.jsonl"
        before = kept.stat().st_size if kept.exists() else None
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src")}
        began = _children()
        try:
            done = subprocess.run(
                [self.python, *command], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
            )
        finally:
            if before is None:
                kept.unlink(missing_ok=True)
            else:
                os.truncate(kept, before)
        if done.returncode:
            raise SystemExit(f"{self.folder}: {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return figures_of(done.stdout, _children() - began, everything=everything)

    def compile(self) -> None:
        """Write the byte code of all modules, as an installation does: else each run of a side may compile them."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        command = [self.python, "-m", "compileall", "-q", "src", "benchmarks"]
        subprocess.run(command, cwd=self.folder, env=environment, check=True)

    @property
    def commit(self) -> str | None:
        command = ["git", "rev-parse", "--short=10", "HEAD"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        return done.stdout.strip() or None


def _children() -> float:
    """Seconds of processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(name: str, old: Checkout, new: Checkout, rounds: int, *, everything: bool) -> None:
    """Run one benchmark, print a table, and keep a line for each figure."""
    measured = []
    for number in range(rounds):
        runs = [side.run(COMMANDS[name], everything=everything) for side in (old, new, old)]
        measured.append(paired(*runs))
        print(f"{name}: round {number + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    print(f"\n{name}, {rounds} rounds", file=sys.stderr)
    print(f"{'':62}{'old':>10}{'new':>10}  {'unit':6}{'ratio':>6}  new/old      old/old", file=sys.stderr)
    for of_one_figure in zip(*measured, strict=True):
        figure = of_one_figure[0][0]
        one = compared([values for _, values in of_one_figure])
        print(
            f"{figure.name[:61]:62}{one.old:>10.4g}{one.new:>10.4g}  {figure.unit:6}{one.ratio:>6.3f}  "
            f"{one.lowest:.2f}..{one.highest:.2f}   {one.old_lowest:.2f}..{one.old_highest:.2f}"
            f"{'' if one.tells else '  (within the noise)'}",
            file=sys.stderr,
        )
        record(
            f"compare: {figure.name}" if figure.name != WHOLE else f"compare: {name}: {WHOLE}",
            one.ratio,
            "ratio",
            old_commit=old.commit,
            old_value=float(f"{one.old:.4g}"),
            new_value=float(f"{one.new:.4g}"),
            measured_in=figure.unit,
            old_against_old=[round(one.old_lowest, 3), round(one.old_highest, 3)],
            rounds=rounds,
            load=round(os.getloadavg()[0], 1),
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=COMMANDS, metavar="NAME", help=", ".join(COMMANDS))
    parser.add_argument("--old", type=Path, required=True, help="the checkout that is compared with")
    parser.add_argument("--old-python", help="its Python; DIR/.venv/bin/python where there is one")
    parser.add_argument("--new", type=Path, default=ROOT, help="the checkout that is measured; this one")
    parser.add_argument("--new-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--all", action="store_true", help="also what depends on how busy the machine is")
    options = parser.parse_args(arguments)
    own = options.old.resolve() / ".venv" / "bin" / "python"
    old = Checkout(options.old.resolve(), options.old_python or str(own if own.exists() else sys.executable))
    new = Checkout(options.new.resolve(), options.new_python)
    old.compile()
    new.compile()
    for name in options.names:
        compare(name, old, new, options.rounds, everything=options.all)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
