"""How the gateway comes onto a machine; `python -m local` is what `make run` runs."""
