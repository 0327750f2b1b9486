"""Files of the server: uploaded in three steps, or made by tools."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from simulator import content
from simulator.content import Content
from simulator.script import Script

FileState = Literal["expected", "stored", "ready"]
_REMEMBERED = 5000
_KEPT_BYTES = 8 * 1024 * 1024


@dataclass
class File:
    """One file. An uploaded one is expected, then stored by the PUT, then ready."""

    id: str
    owner: str
    name: str
    use_case: str
    state: FileState
    size: int
    content: Content | None
    script: Script
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    mime: str = ""
    sha256: str = ""
    polls: int = 0
    signature: str = field(default_factory=lambda: uuid4().hex)

    def shown(self) -> dict[str, str | int]:
        """Describe it for `GET /simulator/files`."""
        return {
            "id": self.id,
            "owner": self.owner,
            "name": self.name,
            "use_case": self.use_case,
            "state": self.state,
            "size": self.size,
            "mime": self.mime,
            "sha256": self.sha256,
        }


class Intake:
    """Receiver of an upload. A large one is hashed and not kept."""

    def __init__(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._kept: bytearray | None = bytearray()

    def feed(self, data: bytes) -> None:
        """Add the next piece."""
        self.size += len(data)
        self._digest.update(data)
        if self._kept is not None:
            self._kept += data
            if self.size > _KEPT_BYTES:
                self._kept = None

    def store(self, file: File, mime: str) -> None:
        """Record the received bytes as the content of `file`."""
        file.state = "stored"
        file.size = self.size
        file.mime = mime
        file.sha256 = self._digest.hexdigest()
        file.content = None if self._kept is None else content.uploaded(bytes(self._kept), mime)


class Files:
    """The last 5000 files."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}

    def expect(self, owner: str, name: str, size: int, use_case: str, script: Script) -> File:
        """Add a file that its owner is about to upload."""
        return self._keep(File(_file_id(), owner, name, use_case, "expected", size, None, script))

    def make(self, owner: str, name: str, made: Content, script: Script) -> File:
        """Add a file that a tool has made for the owner."""
        return self._keep(
            File(
                _file_id(),
                owner,
                name,
                "made",
                "ready",
                made.size,
                made,
                script,
                mime=made.mime,
            )
        )

    def get(self, file_id: str) -> File | None:
        """Return the file of this id, of any owner."""
        return self._files.get(file_id)

    def owned(self, file_id: str, owner: str) -> File | None:
        """Return the file of this id, if it is the owner's."""
        file = self._files.get(file_id)
        return file if file is not None and file.owner == owner else None

    def all(self) -> list[File]:
        """Return every file, oldest first."""
        return list(self._files.values())

    def clear(self) -> None:
        """Forget every file."""
        self._files.clear()

    def _keep(self, file: File) -> File:
        self._files[file.id] = file
        if len(self._files) > _REMEMBERED:
            del self._files[next(iter(self._files))]
        return file


def _file_id() -> str:
    return f"file-{uuid4().hex[:24]}"
