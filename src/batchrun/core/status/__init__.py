"""The status of a batch, during a run and from its files.

- `snapshot`: the counts of a run at one moment, and its speed
- `follow`: output and journal, counted while they grow
- `status`: the status of a batch from these counts
"""
