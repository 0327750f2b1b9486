"""Files to and from the upstream."""
