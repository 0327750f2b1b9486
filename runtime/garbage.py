"""Garbage collection of a process that keeps many objects for long."""

from __future__ import annotations

import gc

YOUNG, MIDDLE, OLD = 700, 10, 500
"""New objects to a young collection, young ones to a middle one, middle ones to a full one."""


def collect_rarely() -> None:
    """Make full collections rare, and leave out of them what exists now.

    A full collection visits every object of the process: with 10,000 clients that wait, it stops
    the event loop for almost a second, and by default there is one for every few hundred clients
    that come. Young objects are collected as ever, and an object that is in no cycle needs no
    collection at all.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
