"""Parts of every role's process: logs, background tasks, child processes."""
