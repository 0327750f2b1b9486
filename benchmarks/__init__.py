"""What the gateway costs: `make bench`, or `python -m benchmarks first_token` for one of them.

Each benchmark starts `gateway.Gateway` (Redis, worker and front end as processes, and the simulator
where one answers), measures, and prints a short table. Machines differ and are noisy, so what is
compared is measured in one run, in turns. Nothing fails because of the clock; what fails a
benchmark is a wrong answer.
"""
