"""When a submit may go.
`gate`: slots, slow start, pauses, outages and halts, rates, and what several batches share."""
