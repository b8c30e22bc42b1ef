"""A run, from its files to its outcome. Read `runner` first, then `exchanges`, `files` and `rows`."""
