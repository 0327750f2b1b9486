"""Names in the environment that look like settings and are none.

`GATEWAY__...` that names no setting stops the start. These names do not: Kubernetes sets variables
such as GATEWAY_PORT in every container if there is a Service called gateway.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator, Mapping

from msgspec.structs import fields

from settings import Upstream
from settings.loader import FIELDS, OVERRIDE

logger = logging.getLogger(__name__)

_OTHERS = ("SETTINGS", "GPTS", "SECRET", "SECRET_FILE")
"""Variables of ours that are no settings, without GATEWAY_."""

_OF_KUBERNETES = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_\w+)?)")

_MEANT = {name: f"GATEWAY_{name}" for name in _OTHERS} | {
    name.replace(".", "_").upper(): f"{OVERRIDE}{name.replace('.', '__').upper()}"
    for name in FIELDS
}
"""All variables of ours, by their names without GATEWAY_ and without doubled underscores."""

_KEYS = "|".join(key.name.upper() for key in fields(Upstream))
_OF_UPSTREAMS = re.compile(rf"UPSTREAMS_(\w+?)_({_KEYS})")


def log_misspelt(environ: Mapping[str, str]) -> None:
    """Log a warning for each variable that has no effect and looks like one of ours."""
    for name, meant in misspelt(environ):
        logger.warning(
            "the environment variable %s has no effect; did you mean %s?",
            name,
            meant,
            extra={"event": "misspelt_variable"},
        )


def misspelt(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each variable that has no effect and looks like one of ours, and that one."""
    for name in environ:
        if name.startswith(OVERRIDE) or not name.upper().startswith("GATEWAY_"):
            continue
        rest = re.sub("_+", "_", name.upper()).removeprefix("GATEWAY_")
        if found := _OF_UPSTREAMS.fullmatch(rest):
            yield name, f"{OVERRIDE}UPSTREAMS__{found[1]}__{found[2]}"
            continue
        if name == _MEANT.get(rest) or (_OF_KUBERNETES.fullmatch(rest) and rest not in _MEANT):
            continue
        without_section = [known for known in _MEANT if _MEANT[known].endswith(f"__{rest}")]
        close = without_section or difflib.get_close_matches(rest, _MEANT, n=1)
        if close:
            yield name, _MEANT[close[0]]
