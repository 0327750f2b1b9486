"""The chaos test: a gateway of real processes whose parts are killed while clients are served.

`make chaos` runs a long storm (`python -m tests.chaos --help`), tests/e2e/test_chaos.py short ones.
What happens follows from a seed: who asks for what, how each answer fails upstream, who leaves,
what is killed and for how long. When it happens depends on the machine, so a seed brings back the
same kind of storm, not the same microseconds.

    plan.py      the seed's plan: requests, and blows to the processes
    clients.py   asks over real HTTP, each client sure of what its answer must be
    storm.py     strikes, brings back what was struck, and watches
    recovery.py  how long it took until all was well again
    usage.py     what the jobs used, from their own records and logs
    leftovers.py what an idle gateway must not leave in Redis
    verdicts.py  what must hold afterwards

What is held upstream is what the simulator sees open. A turn that goes on upstream although its
client's connection broke (the script's `linger`: a killed worker's, or one whose client left) is
counted apart: nobody in the gateway can end it, and its account answers 429 until it is over.
"""
