"""`GET /backend-api/gizmos/{id}`: every id that begins with `g-` is a GPT."""

from __future__ import annotations

from aiohttp import web

from simulator.errors import RefusedError, detail, web_page
from simulator.handlers import bearer_of
from simulator.state import State

_IMAGES = ["image/jpeg", "image/webp", "image/png", "image/gif"]


class Gizmos:
    """The handler."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def get(self, request: web.Request) -> web.Response:
        """Describe one GPT."""
        fault = self._state.scripts.standing(bearer_of(request)).gizmo
        gizmo_id = request.match_info["id"]
        if fault == "html":
            raise RefusedError(web_page(403))
        if fault == "404" or not gizmo_id.startswith("g-"):
            raise RefusedError(detail(404, "Gizmo not found"))
        self._state.counts.gizmos += 1
        return web.json_response(_info(gizmo_id))


def _info(gizmo_id: str) -> dict[str, object]:
    name = f"GPT {gizmo_id.removeprefix('g-')}"
    author = {
        "user_id": "user-x",
        "display_name": "The simulator",
        "link_to": None,
        "selected_display": "name",
        "is_verified": True,
    }
    display: dict[str, object] = {
        "name": name,
        "description": "Made by the simulator",
        "welcome_message": "Hello",
        "prompt_starters": None,
        "profile_picture_url": None,
        "categories": [],
    }
    gizmo = {
        "id": gizmo_id,
        "organization_id": "org-x",
        "short_url": f"{gizmo_id}-simulated",
        "author": author,
        "voice": {"id": "ember"},
        "workspace_id": None,
        "model": None,
        "instructions": None,
        "settings": None,
        "display": display,
        "share_recipient": "marketplace",
        "updated_at": "2023-11-20T00:00:00+00:00",
        "last_interacted_at": None,
        "tags": ["public"],
        "version": None,
        "live_version": None,
        "training_disabled": None,
        "allowed_sharing_recipients": None,
        "review_info": None,
        "appeal_info": None,
        "vanity_metrics": None,
    }
    tools = [
        {"id": f"gzm_cnf_x~gzm_tool_{kind}", "type": kind, "settings": None, "metadata": None}
        for kind in ("dalle", "browser", "python", "plugins_prototype")
    ]
    attachments = {
        "type": "retrieval",
        "accepted_mime_types": ["text/plain", "application/pdf"],
        "image_mime_types": _IMAGES,
        "can_accept_all_mime_types": True,
    }
    return {
        "gizmo": gizmo,
        "tools": tools,
        "files": [],
        "product_features": {"attachments": attachments},
    }
