"""What happens to rows: events in, instructions out.

- `engine`: dispatches each event, and returns the instructions
- `rows_in`: rows that an earlier run left open, then those of the input
- `submits`: from a row that waits for its turn to a job with an id on the disk
- `polls`: polls and cancels of a job, until it is over
- `retries`: what follows on an attempt that ended
- `artifacts`: how a job ends: its files, if it has any, then its record
- `cancel_requests`: rows that users ask to end
- `shutdown`: how a run ends
"""
