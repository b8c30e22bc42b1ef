"""What happens to rows: events in, instructions out.

- `engine`: dispatches each event, and returns the instructions; what users ask to end, and how a run ends
- `rows_in`: rows that an earlier run left open, then those of the input
- `submits`: from a row that waits for its turn to a job with an id on the disk
- `polls`: polls and cancels of a job, until it is over
- `endings`: how an attempt ends: a retry, or the job's files and its record
"""
