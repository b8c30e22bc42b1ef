"""A run, from its files to its outcome. Read `runner` first, then `workers`, `exchanges`, `files`, `rows`, `cancel_requests`
and `heartbeat`."""
