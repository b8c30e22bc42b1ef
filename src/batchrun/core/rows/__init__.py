"""From a line of the input to the body that is sent.

- `parse`: the row on a line, or why there is none; its endpoint, its body, and rough tokens before anything is paid
- `key_index`: the keys of all rows, small enough for millions; `core/jobs/ended_ids` uses it too
"""
