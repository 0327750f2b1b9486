"""URLs of Redis: of one server, and of a master that Sentinels watch."""

from __future__ import annotations

import pytest

from settings.credentials import Access
from settings.redis_url import (
    EXPECTED_SCHEME,
    EXPECTED_SENTINELS,
    EXPECTED_SERVER,
    SentinelUrl,
    ServerUrl,
    redis_url,
)


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
def test_a_url_is_decoded_into_its_parts(text: str, url: SentinelUrl) -> None:
    assert redis_url(text) == url


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
def test_an_invalid_url_is_refused_and_not_shown(rest: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        redis_url(f"redis+sentinel://{rest}")
    assert str(caught.value) == EXPECTED_SENTINELS
    assert caught.value.__cause__ is None


def test_passwords_do_not_show() -> None:
    url = redis_url("redis+sentinel://me:hush@a/main?sentinel_password=hush")
    assert "hush" not in f"{url} {url!r}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis+sentinel://me:hush@a,[::1]:7/main", "redis+sentinel://a:26379,[::1]:7/main/0"),
        ("rediss+sentinel://a:1/main/2", "rediss+sentinel://a:1/main/2"),
        ("redis://me:hush@a:6379/0?password=hush", "redis://***@a:6379/0?password=***"),
    ],
)
def test_a_url_is_shown_without_its_credentials(text: str, shown: str) -> None:
    assert str(redis_url(text)) == shown
    assert shown in repr(redis_url(text))


@pytest.mark.parametrize("text", ["redis://:p@a/0", "rediss://a", "unix:///x", "redis://a:1?db=2"])
def test_the_url_of_one_server_is_kept_for_redis_py(text: str) -> None:
    assert redis_url(text) == ServerUrl(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", EXPECTED_SCHEME),
        ("redis+sentinels://a/main", EXPECTED_SCHEME),
        ("redis://:hush/hush@a", EXPECTED_SERVER),
        ("redis://a:0", EXPECTED_SERVER),
        ("unix://hush", EXPECTED_SERVER),
    ],
)
def test_other_urls_are_refused_and_not_shown(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        redis_url(text)
    assert str(caught.value) == expected
