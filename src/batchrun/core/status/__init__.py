"""The status of a batch, during a run and from its files.

- `snapshot`: the counts of a run at one moment, and its speed
- `status`: output and journal, counted while they grow, and the status of a batch from these counts
"""
