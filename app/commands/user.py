"""The user of a terminal, as an operator."""

from __future__ import annotations

import os
import pwd

from app.admin.operator import Operator


def terminal_operator() -> Operator:
    """Return the user of this process, with the one who became that user with sudo."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a user without a name
        name = f"uid {os.getuid()}"
    sudo = os.environ.get("SUDO_USER")
    return Operator(name=f"{sudo} as {name}" if sudo else name, via="terminal")
