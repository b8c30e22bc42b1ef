"""Rows in flight.

- `lifecycle`: the phases of a job, and the transition table
- `job`: a row, and the job that is made of it
- `messages`: the events and instructions of the engine
- `jobs`: the one owner of all jobs: their phases, journal entries and records
- `timers`: all that waits for a time
- `record_of`: the record of a job that ended
"""
