"""Messages for a path or method that is not served: which one, and what to use instead. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from app.http.isolation import is_below
from app.openai.errors import MethodNotAllowed, NotFound

_LONGEST = 100
"""Characters of a path that are quoted."""

_PICTURE = (
    "Send the picture in a message to `{v1}/chat/completions`, and ask there for the picture"
    " that you want."
)
_INSTEAD = {
    "messages/batches": "Send each request to `{v1}/messages`: all of them wait in line.",
    "images/edits": _PICTURE,
    "images/variations": _PICTURE,
}


class Served:
    """The paths that are served. Those of the API begin with `v1`, such as `/666/v1`, and those of
    operators with `admin`, if there are any."""

    def __init__(self, v1: str, paths: Sequence[str], admin: str = "") -> None:
        self._v1 = v1
        self._admin = admin
        self._api = [path for path in paths if path.startswith(f"{v1}/") and "<" not in path]

    def not_found(self, method: str, path: str) -> NotFound:
        """Describe a path that is not served.

        A client that does not know the operator's prefix is not given it: it may be a secret.
        """
        name = f"`{method} {path[:_LONGEST]}`"
        if is_below(path, self._admin):
            return NotFound(f"{name} is not served. docs/admin.md lists the paths of operators.")
        if not self._api:
            return NotFound(f"{name} is not served at this port, which is for operators.")
        if path.startswith(f"{self._v1}/"):
            rest = path.removeprefix(f"{self._v1}/").strip("/")
            if (meant := f"{self._v1}/{rest.removeprefix('v1/')}") in self._api:
                return NotFound(f"{name} is not served. Use `{meant}`.")
            return NotFound(f"{name} is not served by this gateway. {self._instead(rest)}")
        if self._v1 == "/v1":
            for served in self._api:
                if served.endswith(path.rstrip("/")) or path.rstrip("/").endswith(served):
                    return NotFound(
                        f"{name} is not served. Use `{served}`: the base URL ends with `/v1`."
                    )
        return NotFound(
            f"{name} is not served. Check that your base URL ends with `/v1`, or, if the operator"
            " has set a prefix, with `/<prefix>/v1`."
        )

    def _instead(self, rest: str) -> str:
        for path, hint in _INSTEAD.items():
            if f"{rest}/".startswith(f"{path}/"):
                return hint.format(v1=self._v1)
        return f"It serves {', '.join(f'`{path}`' for path in self._api)}."


def method_not_allowed(method: str, path: str, allowed: Sequence[str]) -> MethodNotAllowed:
    """Describe a method that a path does not have."""
    names = ", ".join(sorted(allowed))
    failure = MethodNotAllowed(f"`{method} {path[:_LONGEST]}` is not allowed. Use {names}.")
    failure.allow = names
    return failure
