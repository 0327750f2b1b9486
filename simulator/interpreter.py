"""Contents of python's messages: the output, and `aggregate_result` with images and errors."""

from __future__ import annotations

from simulator.events import Event
from simulator.steps import Output, PlacedStep

_TRACEBACK = [
    "---------------------------------------------------------------------------",
    "ZeroDivisionError                         Traceback (most recent call last)",
    "Cell In[1], line 1\n----> 1 1 / 0",
    "ZeroDivisionError: division by zero",
]
_STATUS = {
    None: "success",
    "exception": "failed_with_in_kernel_exception",
    "timeout": "cancelled",
    "system": "success",
}


def output_text(step: Output) -> str:
    """Return the visible text: the output and one line for each image, or the traceback."""
    shown = step.text + "\n<<ImageDisplayed>>" * step.images
    if step.crash == "exception":
        shown += "\n".join(_TRACEBACK)
    return shown


def running(step: Output, run_id: str, start: float) -> Event:
    """Make the aggregate result while the code runs."""
    return _aggregate(step, run_id, start, "running", [], [], None)


def ended(placed: PlacedStep, step: Output, run_id: str, start: float) -> Event:
    """Make the aggregate result at the end."""
    end = start + 1
    messages: list[Event] = []
    parent: Event = {"msg_id": run_id, "version": "5.3"}
    jupyter: list[Event] = [
        {"msg_type": "status", "parent_header": parent, "content": {"execution_state": "busy"}},
        {"msg_type": "execute_input", "parent_header": parent},
    ]
    if step.text:
        stream: Event = {"message_type": "stream", "time": end, "sender": "server"}
        messages.append(stream | {"stream_name": "stdout", "text": step.text})
    for image in placed.images:
        url = f"file-service://{image.file_id}"
        shown: Event = {"message_type": "image", "time": end, "sender": "server"}
        size: Event = {"width": image.width, "height": image.height}
        messages.append(shown | {"image_payload": None, "image_url": url} | size)
        figure = f"<Figure size {image.width}x{image.height} with 1 Axes>"
        data = {"text/plain": figure, "image/vnd.openai.fileservice.png": url}
        jupyter.append(
            {"msg_type": "display_data", "parent_header": parent, "content": {"data": data}}
        )
    if step.crash == "exception":
        problem = {"ename": "ZeroDivisionError", "evalue": "division by zero"}
        content = problem | {"traceback": _TRACEBACK}
        jupyter.append({"msg_type": "error", "parent_header": parent, "content": content})
    if step.crash == "timeout":
        messages.append({"message_type": "timeout_interrupt", "sender": "client", "time": end})
        jupyter.append({"msg_type": "@timeout"})
    jupyter.append(
        {"msg_type": "status", "parent_header": parent, "content": {"execution_state": "idle"}}
    )
    return _aggregate(step, run_id, start, _STATUS[step.crash], messages, jupyter, end)


def _aggregate(
    step: Output,
    run_id: str,
    start: float,
    status: str,
    messages: list[Event],
    jupyter: list[Event],
    end: float | None,
) -> Event:
    exception: Event | None = None
    if end is not None and step.crash == "exception":
        exception = {"name": "ZeroDivisionError", "traceback": _TRACEBACK}
        exception |= {"args": ["division by zero"], "notes": []}
    return {
        "status": status,
        "run_id": run_id,
        "start_time": start,
        "update_time": end or start,
        "code": step.code,
        "end_time": end,
        "final_expression_output": None,
        "in_kernel_exception": exception,
        "system_exception": None,
        "messages": messages,
        "jupyter_messages": jupyter,
        "timeout_triggered": 60.0 if end is not None and step.crash == "timeout" else None,
    }
