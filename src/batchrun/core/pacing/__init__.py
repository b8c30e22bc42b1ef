"""When jobs are polled: what is learned of their durations, and the gaps between their polls."""
