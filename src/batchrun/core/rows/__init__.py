"""From a line of the input to the body that is sent.

- `parse`: the row on a line, or why there is none
- `prepare`: the endpoint and the body of a row, with the fields that batchrun and the flags set
- `key_index`: the keys of all rows, small enough for millions
- `estimate`: rough tokens and bytes, before anything is paid
"""
