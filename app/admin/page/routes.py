"""The routes of the page."""

from __future__ import annotations

from app.admin.page.acts import Acts
from app.admin.page.pages import Pages, Surroundings
from app.admin.page.views import VIEWS
from app.refusals import Handler, Refusals
from app.server import Route

READ = ("GET", "HEAD")


def page_routes(around: Surroundings, pages: Pages, acts: Acts, refusals: Refusals) -> list[Route]:
    """Make the routes. Errors are pages, too, except for those of the stream."""
    base = around.base

    def of(handler: Handler) -> Handler:
        return around.shown(refusals.of(handler))

    paths = {view: f"{base}/{view}" for view in VIEWS}
    paths |= {"overview": base, "job": f"{base}/jobs/<id>"}
    asked, chosen = of(acts.ask), of(acts.choose)
    return [
        *(Route(f"admin_page_{view}", READ, paths[view], of(pages.of(view))) for view in VIEWS),
        Route("admin_stream", ("GET",), f"{base}/stream", refusals.of(pages.stream)),
        Route("admin_login", READ, f"{base}/login", of(pages.login)),
        Route("admin_look", ("POST",), f"{base}/look", chosen, is_feature=True),
        Route("admin_asset", READ, f"{base}/assets/<name>", around.assets.answer),
        Route("admin_ask", READ, f"{base}/act/<action>", asked),
        Route("admin_act", ("POST",), f"{base}/act/<action>", of(acts.act), is_feature=True),
    ]
