"""Image requests, as clients of several generations send them."""

from __future__ import annotations

import json

import pytest

from app.openai.errors import UnsupportedParameter
from app.openai.requests import ImagesRequest, decode_images


def decoded(**fields: object) -> ImagesRequest:
    return decode_images(json.dumps({"prompt": "an otter", **fields}).encode())


@pytest.mark.parametrize(
    ("model", "form", "base64"),
    [
        (None, None, False),
        ("dall-e-3", None, False),
        ("dall-e-3", "b64_json", True),
        ("gpt-image-1", None, True),
        ("gpt-image-1-mini", None, True),
        ("gpt-image-1", "url", False),
    ],
)
def test_the_form_of_the_images_is_that_of_the_model(
    model: str | None, form: str | None, *, base64: bool
) -> None:
    assert decoded(model=model, response_format=form).wants_base64 == base64


@pytest.mark.parametrize(
    ("field", "value"),
    [("stream", True), ("partial_images", 1), ("image", "https://a/b.png"), ("mask", [])],
)
def test_a_field_that_is_not_served_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UnsupportedParameter, match=f"`{field}` is not supported") as refused:
        decoded(**{field: value})
    assert refused.value.param == field


def test_fields_that_ask_for_nothing_are_accepted() -> None:
    decoded(stream=False, partial_images=0, image=None, mask=None, user=7)
