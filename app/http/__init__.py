"""HTTP: request bodies, memory budget, streamed and whole answers, serving processes."""
