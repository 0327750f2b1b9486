"""The URL of a Redis that Sentinels watch over."""

from __future__ import annotations

import pytest

from settings.redis_url import EXPECTED, Access, SentinelUrl, is_sentinel_url, parse


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis+sentinel://a/main", SentinelUrl((("a", 26379),), "main")),
        (
            "redis+sentinel://a:1,b,10.0.0.5:3/m.a-i_n/2",
            SentinelUrl((("a", 1), ("b", 26379), ("10.0.0.5", 3)), "m.a-i_n", 2),
        ),
        ("redis+sentinel://a,a:26379/main/", SentinelUrl((("a", 26379),), "main")),
        (
            "redis+sentinel://[::1],[2001:db8::7]:26380/main/0",
            SentinelUrl((("::1", 26379), ("2001:db8::7", 26380)), "main"),
        ),
        (
            "redis+sentinel://me%40home:p%3Aa%2Fs%3Fs%2C%23%25@a/main",
            SentinelUrl((("a", 26379),), "main", access=Access("me@home", "p:a/s?s,#%")),
        ),
        (
            "redis+sentinel://:pass@a/main/1?sentinel_password=p%26q&sentinel_username=eve",
            SentinelUrl((("a", 26379),), "main", 1, Access(None, "pass"), Access("eve", "p&q")),
        ),
        (
            "rediss+sentinel://a/main?ssl_ca_certs=%2Fetc%2Fca.pem&sentinel_password=x",
            SentinelUrl(
                (("a", 26379),),
                "main",
                sentinel_access=Access(None, "x"),
                tls={"ssl_ca_certs": "/etc/ca.pem"},
            ),
        ),
        ("rediss+sentinel://a/main", SentinelUrl((("a", 26379),), "main", tls={})),
    ],
)
def test_a_url_is_taken_apart(text: str, url: SentinelUrl) -> None:
    assert is_sentinel_url(text)
    assert parse(text) == url


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "host",
        "host/",
        "/main",
        "hush:hush",
        "host:0/main",
        "host:65536/main",
        "host:hush/main",
        "host,/main",
        "host,,host/main",
        "::1/main",
        "[::1/main",
        "[::1]x/main",
        "[hush]/main",
        "[1::2::3]/main",
        "host/main/x",
        "host/main/0/0",
        "host/ma in",
        "host/main#hush",
        "me:hush/hush@host/main",
        "me:hush?hush@host/main",
        "host/main?password=hush",
        "host/main?ssl_ca_certs=hush",
    ],
)
def test_what_is_wrong_is_refused_and_not_shown(rest: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse(f"redis+sentinel://{rest}")
    assert str(caught.value) == EXPECTED
    assert caught.value.__cause__ is None


def test_passwords_do_not_show() -> None:
    url = parse("redis+sentinel://me:hush@a/main?sentinel_password=hush")
    assert "hush" not in f"{url} {url!r}"


@pytest.mark.parametrize("text", ["redis://a/0", "redis+sentinels://a/main", "unix:///x", ""])
def test_other_urls_are_not_meant(text: str) -> None:
    assert not is_sentinel_url(text)
