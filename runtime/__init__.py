"""What every role's process is made of: logs, background tasks, child processes."""
