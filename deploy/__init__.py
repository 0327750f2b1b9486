"""Files that install the gateway on a machine. `make run` is in local/."""
