"""What differs between services: requests to build, answers to read.

Laws of this package, the first held by ``tests/test_layers.py``:

1. It is pure: no clock, no chance, no environment, no file. The environment comes in as a mapping, a profile
   as the table that a TOML parser made of it.
2. A service is data (`profile`), and one reader of that data (`service`). No service has code of its own.
3. What a user set up wrongly is ``Misuse`` before anything is sent, and its text shows no secret.
"""
