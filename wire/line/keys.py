"""Names of the line's keys and channels in Redis, for Python and for the Lua scripts.

Both languages use the same names: `keys.later` is a string, and a name with variable parts is
called with them, `keys.job(id)`. `docs/redis.md` describes every key.
"""

from __future__ import annotations

import re


class Key(str):
    """Name of a key or channel; variable parts are in braces and are given by a call."""

    def __call__(self, *parts: str) -> str:
        """The name with its variable parts, in the order of the template."""
        return self.format(**dict(zip(self.parts, parts, strict=True)))

    @property
    def parts(self) -> list[str]:
        """Names of the variable parts."""
        return re.findall(r"{(\w+)}", self)


# Jobs.
job = Key("gateway:job:{id}")
log = Key("gateway:log:{id}")
idempotency = Key("gateway:idem:{name}")
arq_job = Key("arq:job:{id}")
arq_retry = Key("arq:retry:{id}")
arq_in_progress = Key("arq:in-progress:{id}")

# Lanes, and the sorts of their jobs.
queue = Key("arq:queue:{lane}:{fingerprint}")
strangers = Key("gateway:strangers:{lane}:{fingerprint}")
regulars = Key("gateway:regulars:{lane}:{fingerprint}")
waiting = Key("gateway:waiting:{sort}")
backlog = Key("gateway:backlog:{lane}")
ready = Key("gateway:ready:{fingerprint}")
lane = Key("gateway:lane:{lane}")
promises = Key("gateway:promises:{lane}")
outside = Key("gateway:outside:{lane}")

# Gateway keys: their records, and the requests of the last minute.
issued = Key("gateway:issued:{id}")
keyring = Key("gateway:keyring")
recent = Key("gateway:recent:{id}")
revoked = Key("gateway:revoked")
counted = Key("gateway:counted")

# Keys: who asks.
key = Key("gateway:key:{key}")
waits = Key("gateway:waits:{key}")
lines = Key("gateway:lines:{key}")
line = Key("gateway:line:{key}:{lane}:{family}")
queued = Key("gateway:queued:{key}")
held = Key("gateway:held:{key}")
running = Key("gateway:running:{key}")
users = Key("gateway:users:{key}")
promised = Key("gateway:promised:{key}")
refused = Key("gateway:refused:{key}")

# Upstreams and their accounts: what jobs run on.
upstreams = Key("gateway:upstreams")
upstream = Key("gateway:upstream:{upstream}")
serves = Key("gateway:serves:{upstream}")
servers = Key("gateway:servers:{lane}")
accounts = Key("gateway:accounts:{upstream}")
breaker = Key("gateway:breaker:{upstream}")
leases = Key("gateway:leases:{upstream}:{sort}")
precedence = Key("gateway:precedence:{upstream}")
account = Key("gateway:account:{account}")
holds = Key("gateway:holds:{account}")
limited = Key("gateway:limited")

# Processes: presences, which are also their channels.
front_end = Key("gateway:front:{id}")
worker = Key("gateway:worker:{id}")
workers = Key("gateway:workers:{fingerprint}")
fingerprints = Key("gateway:fingerprints")
nudge = Key("gateway:nudge:{fingerprint}")
process = Key("gateway:process:{id}")
processes = Key("gateway:processes")
draining = Key("gateway:draining:{worker}")

# The line as a whole.
later = Key("gateway:later")
service = Key("gateway:service")
usage = Key("gateway:usage:{day}")
spent = Key("gateway:spent:{key}:{period}")
bytes_ = Key("gateway:bytes")
pulse = Key("gateway:pulse")
metrics = Key("gateway:metrics")
history = Key("gateway:history")
endings = Key("gateway:endings")
reconciler = Key("gateway:reconciler")
repaired = Key("gateway:repaired")
version = Key("gateway:version")

# Operators: their holds, and what they did.
pauses = Key("gateway:pauses")
audit = Key("gateway:audit")

_ALL = {name.rstrip("_"): key for name, key in globals().items() if isinstance(key, Key)}


def to_lua(fingerprint: str) -> str:
    """The Lua module `keys`. Its names already contain the fingerprint of the secret."""
    names = (_to_lua(name, key, fingerprint) for name, key in _ALL.items())
    lines = ["local keys = {}", f"keys.fingerprint = '{fingerprint}'", *names, "return keys"]
    return "\n".join(lines)


def _to_lua(name: str, key: Key, fingerprint: str) -> str:
    key = Key(key.replace("{fingerprint}", fingerprint))
    pieces = re.split(r"{(\w+)}", key)  # text and part in turn
    quoted = [piece if n % 2 else f"'{piece}'" for n, piece in enumerate(pieces) if piece]
    value = " .. ".join(quoted)
    if not key.parts:
        return f"keys.{name} = {value}"
    return f"function keys.{name}({', '.join(key.parts)}) return {value} end"
