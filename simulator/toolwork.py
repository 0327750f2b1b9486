"""Events of the tools: python, browser, DALL-E, documents and actions."""

from __future__ import annotations

import hashlib

from simulator import citations, interpreter
from simulator.events import Event, Events
from simulator.steps import Ask, Display, Output, Pictures, PlacedStep, Quote, Raw, ToolText


def work(events: Events, placed: PlacedStep, now: float) -> list[Event]:
    """Return all events of a tool's step. `now` is the start of the turn, in Unix seconds."""
    match placed.step:
        case Output() as step:
            return _output(events, placed, step, now)
        case Display() as step:
            return _display(events, placed, step)
        case Quote() as step:
            return [_quote(events, placed, step)]
        case Pictures() as step:
            return [_pictures(events, placed, step)]
        case ToolText() as step:
            return [_tool_text(events, placed, step)]
        case Ask() as step:
            return [_ask(events, placed, step)]
        case Raw() as step:
            return [step.event]
        case _:
            raise AssertionError(f"{placed.step} is not a tool's step")


def operation_hash(step: Ask) -> str:
    """Return the 40 hex digits that a client must repeat for `always_allow`."""
    return hashlib.sha1(step.tool.encode(), usedforsecurity=False).hexdigest()


def _output(events: Events, placed: PlacedStep, step: Output, now: float) -> list[Event]:
    run_id = placed.id[::-1]
    start = events.tool(
        placed,
        "python",
        {"content_type": "execution_output", "text": ""},
        {"aggregate_result": interpreter.running(step, run_id, now)},
        status="in_progress",
        created=now,
    )
    if step.crash == "system":
        said: Event = {"name": "AceInternalException", "text": "Encountered exception"}
        return [start, events.tool(placed, "python", {"content_type": "system_error"} | said)]
    end = events.tool(
        placed,
        "python",
        {"content_type": "execution_output", "text": interpreter.output_text(step)},
        {
            "aggregate_result": interpreter.ended(placed, step, run_id, now),
            "is_complete": True,
        },
        created=now,
        updated=now + 1,
    )
    return [start, end]


def _display(events: Events, placed: PlacedStep, step: Display) -> list[Event]:
    done: Event = {
        "content_type": "tether_browsing_display",
        "result": step.result,
        "summary": f"[{', '.join(step.args)}]",
        "assets": None,
        "tether_id": None,
    }
    empty: Event = {"result": "", "summary": ""}
    command: Event = {"command": step.command, "args": list(step.args)}
    found: Event = {
        "citation_format": citations.FORMAT,
        "metadata_list": [],
        "original_query": None,
    }
    end: Event = {"status": "failed"} if step.failed else {"status": "finished"}
    return [
        events.tool(placed, step.tool, done | empty, command | {"status": "running"}, weight=0),
        events.tool(placed, step.tool, done, command | end | {"_cite_metadata": found}),
    ]


def _quote(events: Events, placed: PlacedStep, step: Quote) -> Event:
    address = step.url.partition("://")[2].partition("/")[0] or step.title
    content = {
        "content_type": "tether_quote",
        "url": step.url,
        "domain": address,
        "text": step.text,
        "title": step.title,
    }
    cited: Event = {"type": "webpage", "title": step.title, "url": step.url}
    if step.tool != "browser":
        cited = {"type": "file", "name": step.title, "id": step.url, "source": "my_files"}
    cited |= {"text": step.text, "pub_date": None, "extra": None}
    found = {"citation_format": citations.FORMAT, "metadata_list": [cited]}
    return events.tool(placed, step.tool, content, {"_cite_metadata": found})


def _pictures(events: Events, placed: PlacedStep, step: Pictures) -> Event:
    parts = []
    for n, image in enumerate(placed.images):
        dalle: Event = {
            "gen_id": placed.id.replace("-", "")[n : n + 16],
            "prompt": step.prompt,
            "seed": 4286421595 - n,
            "serialization_title": "DALL-E generation metadata",
        }
        part: Event = {
            "content_type": "image_asset_pointer",
            "asset_pointer": f"file-service://{image.file_id}",
            "size_bytes": image.size,
            "width": image.width,
            "height": image.height,
            "fovea": 512,
            "metadata": {"dalle": dalle},
        }
        parts.append(part)
    return events.tool(placed, "dalle.text2im", {"content_type": "multimodal_text", "parts": parts})


def _tool_text(events: Events, placed: PlacedStep, step: ToolText) -> Event:
    extra: Event = {}
    if step.plugin:
        plugin: Event = {"type": "remote", "namespace": step.tool.partition(".")[0]}
        plugin |= {"plugin_id": f"g-{'0' * 40}", "http_response_status": 200}
        extra = {"invoked_plugin": plugin}
    return events.tool(placed, step.tool, {"content_type": "text", "parts": [step.text]}, extra)


def _ask(events: Events, placed: PlacedStep, step: Ask) -> Event:
    target: Event = {"target_message_id": placed.id}
    actions: list[Event] = [{"name": "Allow", "type": "allow", "allow": target}]
    if not step.consequential:
        always = target | {"operation_hash": operation_hash(step)}
        actions.append({"name": "Always allow", "type": "always_allow", "always_allow": always})
    actions.append({"name": "Deny", "type": "deny", "deny": target})
    body = {
        "domain": step.domain,
        "is_consequential": step.consequential,
        "privacy_policy": f"https://{step.domain}/privacy",
        "method": "get",
        "path": "/thing",
        "operation": step.operation,
        "params": {"id": 1},
        "actions": actions,
    }
    asked = {"from_server": {"type": "confirm_action", "body": body}}
    return events.tool(
        placed,
        step.tool,
        {"content_type": "text", "parts": [""]},
        {"jit_plugin_data": asked},
    )
