"""What a piece of work costs, measured against another in the same process: no test knows how fast a machine is."""

import json
import time

_KEYS = "{" + ",".join(f'"key {n}":{n}' for n in range(100_000)) + "}"


def parsing():
    """The usual measure: reading 100,000 keys by the standard library, under a tenth of a second on most machines."""
    json.loads(_KEYS)


def costs_at_most(times, work, measure=parsing):
    """Whether `work` takes at most so many times the processor time of `measure`.

    Both are taken in turn, and again up to five times: next to other processes the time of one and the same work may
    double from one moment to the next.
    """

    def taken(one):
        begun = time.process_time()
        one()
        return time.process_time() - begun

    return any(taken(work) <= times * taken(measure) for _ in range(5))
