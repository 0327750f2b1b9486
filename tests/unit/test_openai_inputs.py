"""Lists of inputs to embed: sent one by one, and their answers joined."""

from __future__ import annotations

import json

import pytest

from wire.events import Failed
from workers.openai.inputs import MOST_INPUTS, each_input, join_embeddings
from workers.openai.request import Request
from workers.upstream import UpstreamError


def request(inputs: object) -> Request:
    return Request(json.dumps({"model": "m", "input": inputs, "any": 1}).encode(), "m", False)


def answer(*embeddings: object, **more: object) -> bytes:
    data = [{"object": "embedding", "embedding": one, "index": 0} for one in embeddings]
    return json.dumps({"object": "list", "model": "m", "data": data, **more}).encode()


@pytest.mark.parametrize("inputs", [["a", "b\u4e16"], [[1, 2], [3]], [{"content": []}] * 2])
def test_each_input_is_a_request_with_all_other_fields(inputs: list[object]) -> None:
    sent = [json.loads(one.body) for one in each_input(request(inputs))]
    assert sent == [{"model": "m", "input": [one], "any": 1} for one in inputs]


@pytest.mark.parametrize("inputs", ["a text", ["a"], [1, 2, 3], [-1, 2], [], None, {"a": 1}])
def test_one_input_is_sent_as_it_is(inputs: object) -> None:
    assert list(each_input(request(inputs))) == []


def test_a_request_without_an_input_is_the_servers_to_refuse() -> None:
    assert list(each_input(Request(b'{"model":"m"}', "m", False))) == []


def test_too_many_inputs_are_refused() -> None:
    assert len(list(each_input(request(["a"] * MOST_INPUTS)))) == MOST_INPUTS
    with pytest.raises(UpstreamError) as refused:
        each_input(request(["a"] * (MOST_INPUTS + 1)))
    assert isinstance(refused.value.failed, Failed)
    assert (refused.value.failed.status, refused.value.failed.param) == (400, "input")


def test_answers_are_joined_in_order_and_their_usage_is_summed() -> None:
    answers = [
        answer([0.10], usage={"prompt_tokens": 2, "total_tokens": 2}, extra="kept"),
        answer("AAA=", usage={"prompt_tokens": 3, "total_tokens": 4}),
    ]
    joined = json.loads(join_embeddings(answers))
    assert [(one["index"], one["embedding"]) for one in joined["data"]] == [(0, [0.1]), (1, "AAA=")]
    assert joined["usage"] == {"prompt_tokens": 5, "total_tokens": 6}
    assert (joined["object"], joined["extra"]) == ("list", "kept")
    assert "usage" not in json.loads(join_embeddings([answer([1]), answer([2])]))


def test_an_answer_that_is_not_a_list_of_embeddings_is_a_failure() -> None:
    with pytest.raises(UpstreamError) as failed:
        join_embeddings([answer([1]), b'{"data":5}'])
    assert failed.value.passing
