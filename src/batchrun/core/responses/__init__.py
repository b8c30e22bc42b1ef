"""What an HTTP response means for a job.

- `http`: a request, a response, or why there was none
- `verdict`: what the response to a submit, a poll or a cancel means
- `outcome`: what a job's body says: it is running, or how it ended, with which result and token counts
- `error`: the error in a body of any known shape
- `shape`: what a response shows that is of no known shape
- `retry_after`: how long to wait
"""
