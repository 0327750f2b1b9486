"""Frame of every page: head, views, what is live, and the content. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from html5tagger import HTML, Builder, Document, E

from app.admin.page.look import THEMES, Look, Theme
from app.admin.page.tables import Cell, Tone
from app.admin.page.texts import LANGUAGES, Language

LANGUAGE_NAMES: Mapping[Language, str] = {"en": "English", "zh": "中文"}

FORM_TOKEN = "form_token"  # noqa: S105 - the name of a field


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """Surroundings of a page. `assets` are the addresses of the style, script and icon; `here` is
    the address of this page, `stream` that of its events, empty if it has none. `operator` is empty
    before the login."""

    view: str
    title: str
    assets: tuple[str, str, str]
    here: str
    theme: Theme = "auto"
    stream: str = ""
    operator: str = ""
    form_token: str = ""


Regions = Mapping[str, str]
"""HTML of the parts of a view that change by themselves, by their ids."""


def document(look: Look, frame: Frame, *content: Cell) -> str:
    """Return a page."""
    texts = look.texts
    style, script, icon = frame.assets
    page = Document(
        f"{frame.title} · {texts.name}",
        lang=texts.lang,
        data_theme=frame.theme,
        data_units=" ".join(texts.units),
        _viewport=True,
    )
    page.meta(name="color-scheme", content="light dark")
    page.link(rel="stylesheet", href=style).link(rel="icon", href=icon, type="image/svg+xml")
    page.script(src=script, defer=True)
    page.body(
        E.a(texts.skip, href="#content", class_="skip"),
        _header(look, frame, icon),
        E.main(*content, id="content", tabindex="-1"),
        data_stream=frame.stream or None,
        data_live=texts.live,
        data_not_live=texts.not_live,
        data_connecting=texts.connecting,
        data_signed_out=texts.signed_out,
    )
    return str(page)


def regions(view: Sequence[tuple[str, str, str]]) -> Iterator[Builder]:
    """Yield the parts of a view: the id, the class and the HTML of each."""
    for id, kind, html in view:
        yield E.section(HTML(html), id=id, class_=f"region {kind}".rstrip())


def notice(text: Cell, tone: Tone = "held") -> Builder:
    """Return a message above everything else."""
    return E.p(text, class_=f"notice {tone}", role="status")


def _header(look: Look, frame: Frame, icon: str) -> Builder:
    texts = look.texts
    brand = E.a(E.img(src=icon, alt=""), texts.name, href=look.base, class_="brand")
    if not frame.operator:
        return E.header(brand, E.div(_menu(look, frame), class_="tools"))
    status = E.p(texts.no_script if frame.stream else "", id="live", role="status")
    acting = E.form(
        E.input(type="hidden", name=FORM_TOKEN, value=frame.form_token),
        id="act",
        method="post",
        hidden=True,
    )
    tools = E.div(status, _menu(look, frame), class_="tools")
    return E.header(brand, _views(look, frame), tools, acting)


def _views(look: Look, frame: Frame) -> Builder:
    links = (
        E.li(
            E.a(
                name,
                href=look.base if view == "overview" else look.url(view),
                aria_current="page" if view == frame.view else None,
            )
        )
        for view, name in look.texts.views.items()
    )
    return E.nav(E.ul(*links), class_="views", aria_label=look.texts.navigation)


def _menu(look: Look, frame: Frame) -> Builder:
    texts = look.texts
    colours = (
        E.button(
            texts.themes[theme],
            name="theme",
            value=theme,
            aria_pressed="true" if theme == frame.theme else "false",
        )
        for theme in THEMES
    )
    languages = (
        E.button(
            LANGUAGE_NAMES[language],
            name="language",
            value=language,
            lang=language,
            aria_pressed="true" if language == look.language else "false",
        )
        for language in LANGUAGES
    )
    form = E.form(
        E.input(type="hidden", name="back", value=frame.here),
        E.fieldset(E.legend(texts.theme), *colours),
        E.fieldset(E.legend(texts.language), *languages),
        method="post",
        action=look.url("look"),
    )
    leave = (
        E.button(texts.sign_out, form="act", formaction=look.url("logout"))
        if frame.operator
        else None
    )
    summary = E.summary(frame.operator or f"{texts.theme} · {texts.language}")
    return E.details(summary, E.div(form, leave), class_="menu")
