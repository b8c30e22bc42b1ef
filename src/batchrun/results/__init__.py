"""What a batch brings home: records, collections of them, and the exceptions that both can raise.

`errors` holds what a single job can raise, `endings` what ends a run; people find both as `batchrun.errors`.
Nothing here runs anything: a record is read from its line, wherever that line was written.
"""
