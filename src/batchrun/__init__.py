"""Run very many background jobs against a submit-and-poll service and bring every result home."""

__version__ = "0.1.0"
