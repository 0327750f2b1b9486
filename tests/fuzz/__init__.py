"""Fuzz tests, a file for each surface that strangers can reach; see `tests/support/fuzzing.py`."""
