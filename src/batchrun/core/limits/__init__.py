"""When a submit may go: slots, rates, slow start, pauses, outages and halts, and what several batches share (`gate`)."""
