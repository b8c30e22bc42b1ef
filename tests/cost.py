"""What a piece of work costs, measured against another in the same process: no test knows how fast a machine is."""

import itertools
import json
import math
import time

_KEYS = "{" + ",".join(f'"key {n}":{n}' for n in range(100_000)) + "}"


def parsing():
    """The usual measure: reading 100,000 keys by the standard library, under a tenth of a second on most machines."""
    json.loads(_KEYS)


def taken(work):
    """Seconds of processor time."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def costs_at_most(times, work, measure=parsing):
    """Whether `work` takes at most so many times the processor time of `measure`.

    Both are taken in turn, and again up to five times: next to other processes the time of one and the same work may
    double from one moment to the next.
    """

    return any(taken(work) <= times * taken(measure) for _ in range(5))


def longest_step(begin, rounds=4):
    """Seconds of the longest step of the work that `begin` begins: of each step the least that it took in some rounds."""
    least = {}
    for _ in range(rounds):
        steps = iter(begin())
        for number in itertools.count():
            begun = time.process_time()
            more = next(steps, END) is not END
            least[number] = min(least.get(number, math.inf), time.process_time() - begun)
            if not more:
                break
    return max(least.values())


END = object()
