"""`make run`: the whole gateway in the foreground, with a Redis of its own."""
