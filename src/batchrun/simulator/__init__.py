"""A simulated service: a real HTTP server that behaves like a real service, and as badly as its scenario says.

Users test a batch on it before they pay, ``--demo`` runs against it without an API key, and the tests and benchmarks of
batchrun use it.

Reading order: ``scenario`` (with ``distributions``, ``outcomes``, ``directives``), ``service`` (a request goes in, an answer
comes out), ``submits``, ``limits``, ``store`` (with ``jobs``, ``ids``, ``bodies``), ``replies``,
``request_statistics``, ``server`` and ``connection``.

Invariants:

1. What becomes of a row follows from the seed, the row and its turn, never from the order of arrival.
2. A job's whole course is decided at its submit; a poll derives the answer from it. No timer, no task.
3. Time is an argument of ``SimulatedService``; only ``Simulator`` has a clock and ``ServedConnection`` a socket.
4. The statistics count what arrived, whatever became of it.
"""

from batchrun.simulator.distributions import ScenarioError
from batchrun.simulator.request_statistics import RequestStatistics
from batchrun.simulator.scenario import DEMO, Scenario, load, parse
from batchrun.simulator.server import Simulator
from batchrun.simulator.service import SimulatedService

__all__ = ["DEMO", "RequestStatistics", "Scenario", "ScenarioError", "SimulatedService", "Simulator", "load", "parse"]
