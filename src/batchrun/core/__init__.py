"""Everything that decides, and nothing that acts: events in, instructions out.

From the bottom up: `text`, `taxonomy` (what can go wrong), `settings`, `responses` (what a service's response means),
`rows` (the input), `records` (the output), `journal`, `limits` (when a submit may go), `jobs`, `status`, `engine`.

Invariants, held by ``tests/test_layers.py``:

1. Only the standard library's pure parts and orjson are imported.
2. Time and chance are arguments. There is no clock, no random number, no environment, no file here.
3. The same arguments always give the same result.
"""
