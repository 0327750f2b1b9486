"""How the gateway comes onto a machine; `python -m deploy.local` is what `make run` runs."""
