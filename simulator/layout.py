"""Placing of a turn's steps: each gets its ids, and its images in the file store."""

from __future__ import annotations

from uuid import uuid4

from simulator import content
from simulator.files import Files
from simulator.script import Script
from simulator.steps import Image, Output, Pictures, PlacedStep, Step

_CHART = (640, 480)


def place(
    steps: tuple[Step, ...],
    script: Script,
    files: Files,
    owner: str,
    *,
    parent_id: str,
    last_id: str,
) -> tuple[PlacedStep, ...]:
    """Place the steps in order, each as the child of the one before; the last has the given id."""
    placed: list[PlacedStep] = []
    for n, step in enumerate(steps, 1):
        own_id = last_id if n == len(steps) else str(uuid4())
        match step:
            case Output():
                images = _images(step.images, _CHART, script, files, owner)
            case Pictures():
                width, _, height = step.size.partition("x")
                images = _images(step.images, (int(width), int(height)), script, files, owner)
            case _:
                images = ()
        placed.append(PlacedStep(step, own_id, parent_id, images))
        parent_id = own_id
    return tuple(placed)


def _images(
    count: int, size: tuple[int, int], script: Script, files: Files, owner: str
) -> tuple[Image, ...]:
    width, height = size
    images: list[Image] = []
    for n in range(count):
        made = content.picture(width, height, n, script.size)
        name = f"image-{n}.png"
        file = files.make(owner, name, made, script)
        images.append(Image(file.id, made.size, width, height))
    return tuple(images)
