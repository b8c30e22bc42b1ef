"""What can go wrong with a job, and what that means.

- `states`: the states of a record, and the status words of services by group
- `rules`: the taxonomy itself: for each error code its exception, its retries and its advice
- `classify`: which rule an error falls under
- `halts`: why a run submits nothing more
- `explain`: all that is known of one word; the advice for rows that did not succeed
"""
