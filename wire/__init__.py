"""All that crosses Redis between front ends (`app`) and workers (`workers`).

In the order the data flows: a front end seals a job (`jobs`, `seal`), puts it in line (`queue`),
a worker claims it there and publishes its events (`events`, `outbox`), which the front end
receives (`inbox`) and, where a message was lost, reads again from the job's `log`.
"""

VERSION = 2
"""Version of every message here. Roles of different versions must not share a Redis database."""
