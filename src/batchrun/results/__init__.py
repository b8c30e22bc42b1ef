"""What a batch brings back: records, collections of them, and exceptions.

In reading order: `record` (one record, and the exceptions that carry it), `openai_errors` (the same as the openai SDK
would raise them), `images`, `display` and `tables` (records shown), `records` (many of them), `run_errors` (what ends a
run). People find the exceptions as `batchrun.errors`. Nothing here runs anything: a record is read from its line.
"""
