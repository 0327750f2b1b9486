"""HTTP: bodies in, streams and whole answers out, and the processes that serve them."""
