"""The events of a turn as values, in the recorded key order, before any encoding."""

from __future__ import annotations

import msgspec

from simulator.errors import UNUSUAL_ACTIVITY
from simulator.payload import Message
from simulator.script import Script
from simulator.steps import PlacedStep

Event = dict[str, object]

_FINISH = {
    "stop": {"type": "stop", "stop_tokens": [100260]},
    "max_tokens": {"type": "max_tokens"},
    "interrupted": {"type": "interrupted"},
}


class Turn(msgspec.Struct, frozen=True):
    """Ids and times of one answer. They are given, so rendering is deterministic."""

    conversation_id: str
    system_id: str
    message_id: str
    parent_id: str
    model: str
    action: str
    created: float
    finished: float
    prompt_moderation_id: str
    completion_moderation_id: str
    prompt: Message | None


class Events:
    """Factory for the events of one turn."""

    def __init__(self, script: Script, turn: Turn) -> None:
        self._script = script
        self._turn = turn

    def assistant(
        self,
        placed: PlacedStep,
        content: object,
        status: str,
        extra: Event | None = None,
        *,
        end_turn: bool | None = None,
        recipient: str = "all",
        pad: str = "",
    ) -> Event:
        """Make an event of an assistant's message. `extra` goes into its metadata."""
        turn = self._turn
        metadata: Event = {
            "inline_gizmo_id": None,
            "message_type": turn.action,
            "model_slug": turn.model,
            "parent_id": placed.parent_id,
        }
        metadata |= extra or {}
        if self._script.pad:
            metadata["pad"] = pad or "A" * self._script.pad
        message = {
            "id": placed.id,
            "author": {"role": "assistant", "name": None, "metadata": {}},
            # The time changes once, in the very last event of a message.
            "create_time": turn.finished if "timestamp_" in metadata else turn.created,
            "update_time": None,
            "content": content,
            "status": status,
            "end_turn": end_turn,
            "weight": 1.0,
            # The recorded keys of 2023 are in alphabetical order.
            "metadata": dict(sorted(metadata.items())),
            "recipient": recipient,
        }
        return self._envelope(message)

    def tool(
        self,
        placed: PlacedStep,
        name: str,
        content: object,
        extra: Event | None = None,
        *,
        status: str = "finished_successfully",
        created: float | None = None,
        updated: float | None = None,
        weight: float = 1.0,
        recipient: str = "all",
    ) -> Event:
        """Make an event of a tool's message. `extra` goes into its metadata."""
        turn = self._turn
        metadata: Event = {
            "message_type": turn.action,
            "model_slug": turn.model,
            "parent_id": placed.parent_id,
        }
        message = {
            "id": placed.id,
            "author": {"role": "tool", "name": name, "metadata": {}},
            "create_time": created,
            "update_time": updated,
            "content": content,
            "status": status,
            "end_turn": None,
            "weight": weight,
            "metadata": dict(sorted((metadata | (extra or {})).items())),
            "recipient": recipient,
        }
        return self._envelope(message)

    def finish_status(self) -> str:
        """Return the status of the turn's last message."""
        if self._script.finish == "max_tokens":
            return "finished_partial_completion"
        return "finished_successfully"

    def finishes(self, *, last: bool) -> list[Event]:
        """Return the additions of the three finished events of a text to its metadata."""
        details: Event = {"finish_details": _FINISH[self._script.finish if last else "stop"]}
        complete = details | {"is_complete": True}
        return [details, complete, complete | {"timestamp_": "absolute"}]

    def echoes(self) -> list[Event]:
        """Make the hidden system message and the user's own, if the script has them."""
        prompt = self._turn.prompt
        if not self._script.echoes or prompt is None:
            return []
        system = self._echo(
            self._turn.system_id,
            "system",
            {"content_type": "text", "parts": [""]},
            {},
            time=None,
            end_turn=True,
            weight=0.0,
        )
        metadata: Event = {"timestamp_": "absolute", "message_type": None}
        if prompt.metadata.attachments:
            metadata["attachments"] = prompt.metadata.attachments
        user = self._echo(
            prompt.id,
            "user",
            msgspec.to_builtins(prompt.content),
            metadata,
            time=self._turn.created,
            end_turn=None,
            weight=1.0,
        )
        return [system, user]

    def _echo(
        self,
        message_id: str,
        role: str,
        content: object,
        metadata: Event,
        *,
        time: float | None,
        end_turn: bool | None,
        weight: float,
    ) -> Event:
        message = {
            "id": message_id,
            "author": {"role": role, "name": None, "metadata": {}},
            "create_time": time,
            "update_time": None,
            "content": content,
            "status": "finished_successfully",
            "end_turn": end_turn,
            "weight": weight,
            "metadata": metadata,
            "recipient": "all",
        }
        return self._envelope(message)

    def moderation(self, *, completion: bool) -> Event:
        """Make the verdict on the prompt or on the completion."""
        turn = self._turn
        blocked = self._script.block == ("completion" if completion else "prompt")
        return {
            "conversation_id": turn.conversation_id,
            "message_id": turn.message_id if completion else turn.parent_id,
            "is_completion": completion,
            "moderation_response": {
                "flagged": blocked,
                "blocked": blocked,
                "moderation_id": (
                    turn.completion_moderation_id if completion else turn.prompt_moderation_id
                ),
            },
        }

    def title(self) -> list[Event]:
        """Make the title of a new conversation, if the script has it."""
        if not self._script.title:
            return []
        title = "A talk with the simulator"
        conversation_id = self._turn.conversation_id
        return [{"type": "title_generation", "title": title, "conversation_id": conversation_id}]

    def error(self) -> Event:
        """Make the error event."""
        return self._envelope(None, UNUSUAL_ACTIVITY)

    def _envelope(self, message: object, error: str | None = None) -> Event:
        return {
            "message": message,
            "conversation_id": self._turn.conversation_id,
            "error": error,
        }
