"""The answer if there is no script."""

from __future__ import annotations

import re

from simulator.script import Script

_ENGLISH = Script(
    text=(
        "Hello! This is the simulator speaking, and no real model was asked. Your request came"
        " through the gateway, took its place in the waiting line, was given one of the few"
        " upstream slots, and now returns to you piece by piece."
    )
)
_CHINESE = Script(
    text=(
        "你好！这里是模拟器，没有询问任何真实的模型。你的请求经过网关，先在等候队列里排队，"
        "轮到之后得到一个上游名额，现在这段回答正一点一点地传回给你。"
    ),
    step=2,
)
_HAN = re.compile("[\u4e00-\u9fff]")


def sample(prompt: str) -> Script:
    """Return the sample answer in the prompt's language."""
    return _CHINESE if _HAN.search(prompt) else _ENGLISH
