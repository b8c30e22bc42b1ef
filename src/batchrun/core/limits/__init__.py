"""When a submit may go.

- `gate`: slots, slow start, pauses, outages and halts
- `rate`: requests and tokens per minute
- `sharing`: limits that several batches of one process share
"""
