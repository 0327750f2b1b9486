"""Restrictions under which deploy/ starts the roles, put on a command by the kernel's own means."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_READ_ONLY = """
mount --bind "$WRITABLE" "$WRITABLE" || exit
while read -r _ point _; do
    case "$point" in
        /proc*|/sys*|/dev*|"$WRITABLE") ;;
        *) mount -o remount,bind,ro "$point" || exit ;;
    esac
done < /proc/mounts
exec "$@"
"""

_NO_NEW_CODE = """
import ctypes, os, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1  # <linux/prctl.h>, from Linux 6.3 on
if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit("this kernel has no such ban")
os.execvp(sys.argv[1], sys.argv[1:])
"""


def read_only(writable: Path) -> list[str]:
    """Prefix of a command that may write to one folder alone; [] if this system has no means."""
    root = [] if os.getuid() == 0 else ["--map-root-user"]
    enter = ["unshare", "--mount", *root, "env", f"WRITABLE={writable}"]
    return _if_it_works([*enter, "/bin/sh", "-c", _READ_ONLY, "read-only"])


def no_new_code() -> list[str]:
    """Prefix of a command for which no memory becomes executable; [] if the kernel has no ban.

    It is how systemd implements MemoryDenyWriteExecute=.
    """
    return _if_it_works([sys.executable, "-c", _NO_NEW_CODE])


def no_privileges() -> list[str]:
    """Prefix of a command without capabilities, even if root runs it; [] if it could keep some."""
    return _if_it_works(["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])


def _if_it_works(prefix: list[str]) -> list[str]:
    python = ["/bin/sh", "-c", 'exec "$0" -c ""', sys.executable]
    try:
        done = subprocess.run([*prefix, *python], capture_output=True, timeout=60)
    except FileNotFoundError:  # another system than Linux
        return []
    return prefix if done.returncode == 0 else []
