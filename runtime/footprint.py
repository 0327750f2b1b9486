"""Memory, open files and CPU time of this process, as the system counts them."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

_PAGE = resource.getpagesize()


def memory() -> int:
    """Bytes of main memory that this process occupies; without /proc, the most it ever has."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def open_files() -> int:
    """Number of open files and sockets; 0 if the system does not say.

    Takes a few milliseconds if they are thousands, on a Linux before 6.2: to be called in a thread.
    """
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            # Linux 6.2 gives the number as the size of the folder.
            return os.stat(folder).st_size * folder.startswith("/proc") or len(os.listdir(folder))
        except OSError:
            continue
    return 0


def cpu_time() -> float:
    """Seconds of CPU time that this process has used."""
    return time.process_time()
