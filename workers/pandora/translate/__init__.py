"""Pure translation: the upstream's bytes in, events out."""
