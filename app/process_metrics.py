"""Metrics of each live process, with its name as a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from wire.line.processes import ProcessFigures

PREFIX = "gateway_process_"
LABELS = ("process", "role")

Read = Callable[[ProcessFigures], float]

GAUGES: tuple[tuple[str, str, Read], ...] = (
    ("start_time_seconds", "Unix time of the start.", lambda figures: figures.started),
    ("resident_memory_bytes", "Main memory.", lambda figures: figures.memory),
    (
        "event_loop_lag_seconds",
        "Largest lag of the event loop within the last 30 to 60 seconds.",
        lambda figures: figures.lag,
    ),
    ("open_fds", "Open files and sockets.", lambda figures: figures.open_files),
    ("draining", "1 while it takes no more work and will exit.", lambda figures: figures.draining),
)
OF_FRONT_ENDS: tuple[tuple[str, str, Read], ...] = (
    ("connections", "Open connections of clients.", lambda figures: figures.connections),
    ("open_requests", "Requests being answered, waiting ones included.", lambda f: f.streams),
)
OF_WORKERS: tuple[tuple[str, str, Read], ...] = (
    ("running_jobs", "Jobs that it runs.", lambda figures: figures.jobs),
    ("max_jobs", "Jobs that it may run at each of its upstreams.", lambda f: f.max_jobs),
)


def process_metrics(processes: Sequence[ProcessFigures], *, named: bool) -> Iterator[Metric]:
    """Metrics of all live processes; without their hosts, unless `named`."""
    labelled = list(zip(labels(processes, named=named), processes, strict=True))
    cpu = CounterMetricFamily(
        f"{PREFIX}cpu_seconds", "CPU time used since its start.", labels=LABELS
    )
    for process, figures in labelled:
        cpu.add_metric([process, figures.role], figures.cpu)
    yield cpu
    for gauges, roles in (
        (GAUGES, ("front_end", "worker")),
        (OF_FRONT_ENDS, ("front_end",)),
        (OF_WORKERS, ("worker",)),
    ):
        for name, help, read in gauges:
            family = GaugeMetricFamily(f"{PREFIX}{name}", help, labels=LABELS)
            for process, figures in labelled:
                if figures.role in roles:
                    family.add_metric([process, figures.role], read(figures))
            yield family


def labels(processes: Sequence[ProcessFigures], *, named: bool) -> list[str]:
    """A name for each process: its role, host and process id, or a beginning of its id.

    In containers, several may have one host and process id; their names end with their ids.
    """
    names = [f"{each.role}-{each.host}-{each.pid}" if named else each.role for each in processes]
    number = Counter(names)
    return [
        name if named and number[name] == 1 else f"{name}-{each.id[:8]}"
        for name, each in zip(names, processes, strict=True)
    ]
