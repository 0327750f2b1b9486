"""Stream of a job's events from its worker to its front ends, by pub/sub and a log."""
