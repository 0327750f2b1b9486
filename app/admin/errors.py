"""Errors that only operators can receive."""

from __future__ import annotations

from typing import ClassVar

from app.openai.errors import ApiError, Late, LineUnavailable


class NotAnOperator(ApiError):
    """This is for operators. Send the `admin.token` of the settings as the bearer, or sign in."""

    status = 401
    code = "not_an_operator"
    late: ClassVar[Late] = "address"


class CrossSite(ApiError):
    """This request did not come from a page of this gateway, or that page is out of date. Reload
    it, and set `server.public_url` if a proxy changes the host of requests."""

    status = 403
    type = "permission_error"
    code = "cross_site_request"


class RedisUnusable(LineUnavailable):
    """Redis cannot be used."""

    code = "redis_unavailable"


class TooManyStreams(LineUnavailable):
    """Too many event streams are open at this front end. Close one, or try again later."""

    code = "too_many_streams"
