"""`python -m app usage` with a real Redis."""

from __future__ import annotations

import pytest
import redis

import app.__main__
from local.redis import EmbeddedRedis
from wire.line import keys


def test_the_usage_of_the_days_asked_for_is_shown_with_the_names_of_gateway_keys(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        monkeypatch.setenv("GATEWAY__REDIS__URL", redis_server.url)
        monkeypatch.setenv("GATEWAY_SECRET", "the secret of the tests")

        def run(*arguments: str) -> str:
            monkeypatch.setattr("sys.argv", ["app", *arguments])
            capsys.readouterr()
            app.__main__.main()
            return capsys.readouterr().out

        run("keys", "new", "my-bot")
        [id] = client.smembers(keys.keyring)
        counted = {f"{id.decode()} gpt-4%20x requests": 7, f"{id.decode()} models": 1}
        for day in ("2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02"):
            client.hset(keys.usage(day), mapping=counted)
    days = ("--from", "2026-02-28", "--to", "2026-03-01")
    head, row, total = run("usage", *days).splitlines()
    assert head.split()[:3] == ["KEY", "NAME", "REQUESTS"]
    assert row.split()[:3] == [id.decode(), "my-bot", "14"]
    assert total.split()[:2] == ["total", "14"]
    assert run("usage", "--by", "model", "--csv", *days).splitlines()[1].startswith("gpt-4 x,14,")
    for first in ("yesterday", "0001-01-01"):
        with pytest.raises(SystemExit):
            run("usage", "--from", first)
