"""The way back: events from a worker, by pub/sub and a log, to the front ends that read them."""
