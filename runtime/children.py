"""Child processes that neither outlive us nor catch the terminal's Ctrl-C.

Each child gets a session of its own, so that Ctrl-C reaches us alone and we stop the children in
the right order; and on Linux the kernel kills it when we are killed.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def spawn(
    command: Sequence[str | Path],
    *,
    environ: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in its own session; `output`, if given, receives its stdout and stderr.

    To the kernel the parent is the thread that calls this: it must live as long as the child
    should.
    """
    return subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        start_new_session=True,
        preexec_fn=die_with_parent(),
    )


def die_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn` that ties a child to the thread that starts it; None off Linux.

    When that thread ends, and so when the process is killed, the kernel sends the child SIGKILL.
    """
    if sys.platform != "linux":
        return None
    # Looked up before the fork: between fork and exec the child should do as little as possible.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def preexec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the call above
            os._exit(1)

    return preexec


def stop(process: subprocess.Popen[bytes], timeout: float) -> None:
    """End `process` with SIGTERM, and after `timeout` seconds with SIGKILL.

    Does nothing if it has ended.
    """
    process.terminate()
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
