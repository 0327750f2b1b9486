"""An upstream is offered with what its server has said, and not before it has said anything."""

from __future__ import annotations

from typing import cast

import settings
from wire.about import decode_about
from workers.openai.server import OpenAiServer
from workers.openai.survey import Survey
from workers.opening import serve_openai
from workers.served import Surveyed

GPU = settings.Upstream(kind="openai", base_url="http://gpu")


class Stating:
    """A server whose survey has this result."""

    def __init__(self, result: Survey) -> None:
        self.result = result

    async def survey(self) -> Survey:
        return self.result


async def offered(found: Survey) -> Surveyed:
    return await serve_openai("gpu", GPU, cast(OpenAiServer, Stating(found))).survey()


async def test_a_server_that_cannot_be_asked_yet_changes_no_offer_and_is_asked_again_soon() -> None:
    assert await offered(Survey({}, False, 1)) == Surveyed(None, False)


async def test_each_model_has_a_lane_of_each_sort_and_any_model_another() -> None:
    found = await offered(Survey({"*": "m"}, False, 2))
    assert found.offer is not None
    assert found.offer.lanes == ["chat:%2A", "embeddings:%2A"]
    assert found.is_complete
    found = await offered(Survey({}, True, 2))
    assert found.offer is not None
    assert found.offer.lanes == ["chat:*", "embeddings:*"]


async def test_a_refusal_is_offered_at_once() -> None:
    found = await offered(Survey({}, False, 1, "refused_us"))
    assert found.offer is not None
    assert (found.offer.lanes, found.is_complete) == ([], False)
    assert decode_about(found.offer.about).trouble == "refused_us"
