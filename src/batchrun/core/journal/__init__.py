"""The journal: which jobs are in flight, written so that a crash loses none.

- `entries`: the entries as bytes, and back
- `fold`: the state of each row from its entries
- `recover`: the state of a batch from its journal and its output
- `rewrite`: output and journal without superseded records
"""
