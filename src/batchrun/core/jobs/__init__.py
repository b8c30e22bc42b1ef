"""Rows in flight.

- `lifecycle`: the phases of a job, and the transition table
- `job`: a row, the job that is made of it, and the times for which jobs wait
- `ended_ids`: the ids of all jobs that are over
- `messages`: the events and instructions of the engine
- `jobs`: the one owner of all jobs: their phases, journal entries and records
"""
