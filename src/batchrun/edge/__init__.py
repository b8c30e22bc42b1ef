"""Thin I/O and no decisions: carries out the engine's instructions and returns what happened as values.

Invariants of this package:

1. Foreign exceptions are translated once, here, and text from outside is redacted once.
2. Its parts do not import each other, except `exchange`, `redaction` and `append_file`; none imports `services` or the runner.
3. Nothing here chooses between outcomes; values from `core` say what happened.
"""
