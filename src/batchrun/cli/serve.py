"""``batchrun serve``: a simulated service to try things on."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import re
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio

from batchrun.cli import EXIT_FILES, EXIT_OK, EXIT_USAGE
from batchrun.core.text.readable import visible
from batchrun.edge.append_file import BatchFilesError
from batchrun.edge.terminal import for_person, in_lines, text_width
from batchrun.runner.opening.service import expect_descriptors
from batchrun.simulator import DEMO, Scenario, ScenarioError, Simulator, load
from batchrun.simulator.directives import DIRECTIVES
from batchrun.simulator.outcomes import CANCELS, CODES, OUTCOMES, REFUSALS
from batchrun.simulator.scenario import amended

PORT = 8377

_EPILOG = """\
examples:
  every job completes after two seconds:
    batchrun serve
  other durations, and jobs that fail:
    batchrun serve --duration 'lognormal(8s, 0.7)' --fail server_error=5%
  limits, slow responses, other random outcomes:
    batchrun serve --rpm 600 --post-latency 50ms..300ms --seed 7
  everything that a scenario can say, with comments:
    batchrun serve samples/scenario.toml

times are 50ms, 2s, 1h; shares 5% or 0.05; spreads of times 2s, 50ms..300ms,
'lognormal(MEDIAN, SIGMA)', 'trace(FILE)'. a row can script itself in its
prompt: [[fail server_error]], [[incomplete]], [[sleep 2]],
[[refuse http_503 1]]. statistics while it runs: curl ORIGIN/_statistics
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("scenario", nargs="?", type=Path, metavar="SCENARIO.toml", help="how the service behaves")
    parser.add_argument(
        "--host", type=_host, default="127.0.0.1", help="where to listen (default: %(default)s, this machine only)"
    )
    parser.add_argument(
        "--port", type=_port, default=PORT, help="port to listen on; 0 takes any free one (default: %(default)s)"
    )
    parser.add_argument("--print-url", action="store_true", help="print the base URL as the only line, for scripts")
    parser.add_argument("--words", action="store_true", help="list all words of scenarios, options and rows, and exit")
    behaviour = parser.add_argument_group("behaviour, on top of the scenario")
    behaviour.add_argument("--demo", action="store_true", help="start from the demo, whose jobs outlive this process")
    behaviour.add_argument("--seed", type=int, metavar="N", help="seed of the random outcomes (default: 0)")
    behaviour.add_argument("--duration", metavar="SPREAD", help="how long jobs take (default: 2s)")
    behaviour.add_argument("--queued", metavar="SPREAD", help="how long they wait before (default: 0s)")
    behaviour.add_argument("--post-latency", metavar="SPREAD", help="how long a POST takes (default: 0s)")
    behaviour.add_argument("--fail", action="append", metavar="WORD=SHARE", help="how jobs end; may be repeated")
    behaviour.add_argument(
        "--refuse", action="append", metavar="WORD=SHARE", help="how POSTs are refused; may be repeated"
    )
    behaviour.add_argument("--rpm", type=float, metavar="N", help="requests per minute, enforced second by second")
    behaviour.add_argument("--tpm", type=float, metavar="N", help="tokens per minute, enforced likewise")
    behaviour.add_argument("--quota", type=int, metavar="N", help="after N jobs: 429 insufficient_quota")


def run(options: argparse.Namespace) -> int:
    if options.words:
        print(_words())
        return EXIT_OK
    try:
        scenario = _scenario_of(options)
        expect_descriptors()
    except BatchFilesError as problem:
        print(f"batchrun serve: {problem}", file=sys.stderr)
        return EXIT_FILES
    except ScenarioError as problem:
        print(for_person(f"batchrun serve: {visible(str(problem))}", sys.stderr), file=sys.stderr)
        return EXIT_USAGE
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(scenario, options))
    return EXIT_OK


def _scenario_of(options: argparse.Namespace) -> Scenario:
    if options.scenario is not None and options.demo:
        raise ScenarioError("expected a scenario or --demo, got both; leave one out")
    scenario = load(options.scenario) if options.scenario is not None else DEMO if options.demo else Scenario()
    tables: dict[str, Any] = {}
    for flag, table, key in (
        ("duration", "times", "duration"),
        ("queued", "times", "queued"),
        ("post_latency", "times", "post"),
        ("rpm", "limits", "rpm"),
        ("tpm", "limits", "tpm"),
        ("quota", "limits", "quota"),
    ):
        if (value := getattr(options, flag)) is not None:
            tables.setdefault(table, {})[key] = value
    for flag, table in (("fail", "jobs"), ("refuse", "submits")):
        if (mix := getattr(options, flag)) is not None:
            tables[table] = dict(_word_and_share(flag, one) for one in mix)
    if options.seed is not None:
        tables["seed"] = options.seed
    return amended(scenario, tables, "flags", Path())


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {visible(text, 20)!r}")
    return int(text)


def _host(text: str) -> str:
    if (
        re.fullmatch(
            r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_-]+)?",
            text,
            re.ASCII,
        )
        is None
    ):
        raise argparse.ArgumentTypeError(
            f"expected a name or an address in ASCII, got {visible(text, 60)!r}; write 127.0.0.1"
        )
    return text


def _word_and_share(flag: str, text: str) -> tuple[str, str]:
    word, equals, share = text.partition("=")
    if not equals:
        raise ScenarioError(f"expected --{flag} WORD=SHARE, got {text!r}; write --{flag} {word or 'server_error'}=5%")
    return word.strip(), share


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _raise_file_limit() -> None:
    """Allow as many connections as the system permits: the usual soft limit is 1,024 files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS calls it infinite and refuses infinity
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(scenario: Scenario, options: argparse.Namespace) -> int:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        return await _serve_until(signals, scenario, options)


async def _serve_until(signals: AsyncIterator[signal.Signals], scenario: Scenario, options: argparse.Namespace) -> int:
    _raise_file_limit()
    simulator = Simulator(scenario, host=options.host, port=options.port)
    try:
        await simulator.__aenter__()
    except OSError as problem:
        text = f"batchrun serve: cannot listen on {options.host}:{options.port}: {_reason(problem)}; --port 0 takes any free port"
        print(for_person(text, sys.stderr), file=sys.stderr)
        return EXIT_USAGE
    # What exists now is kept to the end, and jobs are bytes in one block: nothing for the collector to visit again.
    gc.collect()
    gc.freeze()
    try:
        print(simulator.base_url if options.print_url else _welcome(simulator), flush=True)
        await anext(signals)
    finally:
        await simulator.__aexit__(None, None, None)
    print(f"\nbatchrun serve: {simulator.statistics.summary(simulator.now())}", file=sys.stderr)
    return EXIT_OK


def _reason(problem: OSError) -> str | None:
    """Why, in a few words: asyncio's text says the address again."""
    return os.strerror(problem.errno).lower() if problem.errno is not None and problem.errno > 0 else problem.strerror


def _welcome(simulator: Simulator) -> str:
    key = simulator.service.scenario.api_key
    return (
        f"a simulated service listens on {simulator.base_url}\n"
        f"\n"
        f"  batchrun in.jsonl -o out.jsonl --model any --base-url {simulator.base_url}\n"
        f"  export OPENAI_BASE_URL={simulator.base_url} OPENAI_API_KEY={'THE KEY OF THE SCENARIO' if key else 'any'}\n"
        f"  curl {simulator.origin}/_statistics\n"
        f"\n"
        f"Ctrl-C stops it."
    )


def _words() -> str:
    width = max(map(len, (*OUTCOMES, *REFUSALS, *CANCELS)))
    blocks = {"how a job may end (--fail, `jobs`, [[WORD]])": OUTCOMES}
    blocks["how a submit may be refused (--refuse, `submits`, [[refuse WORD]])"] = {
        **REFUSALS,
        "http_NNN": "any status of 400 to 599",
    }
    blocks["what a cancel may do (`cancels`, [[cancel WORD]])"] = CANCELS
    blocks["what a row may set, as [[…]] in its prompt, or with ; between in the body's metadata.simulate"] = DIRECTIVES
    columns = text_width(sys.stdout)
    parts = []
    for title, words in blocks.items():
        lines = [f"  {word:{width}}  {meaning}" for word, meaning in words.items()]
        indent = " " * (width + 4) if columns > 2 * width else "    "
        parts.append("\n".join([in_lines(title, columns), *(in_lines(line, columns, indent) for line in lines)]))
    parts.append("error codes, for --fail, --refuse, [[fail CODE]] and [[refuse CODE]]\n  " + "\n  ".join(CODES))
    return "\n\n".join(parts)
