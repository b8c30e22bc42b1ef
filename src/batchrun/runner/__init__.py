"""Takes instructions from core and carries them out through edge. It keeps no protocol state.

Invariants of this package:

1. What is decided here is how, never what: an `if` about a job belongs to core.
2. Everything that ends comes back to the engine as an event; cancelling a task here loses nothing that a
   crash would not lose as well.
3. Files are opened in one order: lock, header, refusals, and only then anything that changes them.
"""
