"""Operators of the tests."""

from __future__ import annotations

from app.admin.actions import Actions
from app.admin.operator import Operator
from benchmarks.line import WholeLine
from tests.support.line import LASTING
from wire.keyring import Keyring
from wire.line.audit import Audit
from wire.line.operator import OperatorLine
from wire.seal import Seal

ANNA = Operator(name="Anna", via="page", address="192.0.2.1")
BEN = Operator(name="Ben", via="terminal")


def operator_line(queue: WholeLine) -> OperatorLine:
    """An operator's view of a line."""
    return OperatorLine(queue.scripts, LASTING)


def actions_on(queue: WholeLine, seal: Seal) -> Actions:
    """The actions of operators on a line."""
    redis = queue.redis
    return Actions(operator_line(queue), Keyring(redis, seal), Audit(redis), seal)
