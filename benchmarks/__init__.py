"""Benchmarks: `make bench` runs all, `python -m benchmarks first_token` one of them.

Each starts a gateway (Redis, worker and front end as processes, and the simulator where answers are
needed) or only a Redis, measures, and prints a short table. Machines differ and are noisy, so
things that are compared are measured in one run, in turns. No benchmark fails because of a time; a
wrong answer fails it.
"""
