"""Thin I/O and no decisions: what the engine ordered is carried out, what happened comes back as a value.

Laws of this package:

1. What is outside ends here: foreign exceptions are translated once, text from outside is redacted once.
2. Rooms do not know each other, `exchange` and `tape` aside; none knows `services` or the runner.
3. Nothing here chooses between outcomes; values from `core` say what happened.
"""
