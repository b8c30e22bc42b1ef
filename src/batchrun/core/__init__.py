"""Everything that decides, and nothing that acts.

Laws of this package, held by ``tests/test_layers.py``:

1. Only the standard library's pure parts and orjson are imported.
2. Time and chance are arguments. There is no clock, no random number, no environment, no file here.
3. A function here gives the same answer to the same question for ever.
"""
