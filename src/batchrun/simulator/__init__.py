"""A service to rehearse on: a real HTTP server that behaves like the real thing, and as badly as told.

Users rehearse a batch on it before they pay, ``--demo`` runs against it without an API key, and the tests
and benchmarks of batchrun drive it. Its laws:

1. What becomes of a row follows from the seed, the row and its turn, never from the order of arrival.
2. A job's whole course is decided at its submit; a look derives the answer from it. No timer, no task.
3. ``SimulatedService`` is given the moment as an argument; only ``Simulator`` has a clock and ``Connection`` a socket.
4. The books count what arrived, whatever became of it.
"""

from batchrun.simulator.distributions import ScenarioError
from batchrun.simulator.request_statistics import Books
from batchrun.simulator.scenario import DEMO, Scenario, load, parse
from batchrun.simulator.server import Simulator
from batchrun.simulator.service import SimulatedService

__all__ = ["DEMO", "Books", "Scenario", "ScenarioError", "SimulatedService", "Simulator", "load", "parse"]
