"""Contract between front ends (`app`) and workers (`workers`): everything that crosses Redis.

In the order of the data: a front end seals a job (`jobs`, `seal`) and enqueues it (`line`); a
worker claims it and publishes its events (`events`, `stream`). The front end receives them, and
reads those of lost messages from the job's log. `upkeep` repairs both.
"""

VERSION = 4
"""Version of every message and key here. Roles of different versions must not share a Redis
database: one that finds data of another version does not start (`wire.line.scripts.upgrade`)."""
