"""Thin I/O and no decisions: what the engine ordered is carried out, what happened comes back as a value.

Rooms here do not know each other; `exchange` (the seam of the wire) and `tape` (files that must survive)
are there for all of them.
"""
