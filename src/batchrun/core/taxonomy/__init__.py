"""What can go wrong with a job, and what that means.

- `rules`: the taxonomy itself: the states of a record, the status words of services by group, for each error code its
  exception, its retries and its advice, and why a run submits nothing more
- `classify`: which rule an error falls under
- `warning_words`: what the warnings of a record say
- `explain`: all that is known of one word; the advice for rows that did not succeed

Programs find it as `batchrun.taxonomy`.
"""
