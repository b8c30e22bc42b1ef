"""When a submit may go.

- `rate`: an exact rate, and the one that a service bears, which is learned
- `lane`: the rows of one endpoint and model: their rate, places, and when one that is refused ends
- `gate`: all of them: slots, slow start, pauses, outages and halts, and what several batches share
"""
