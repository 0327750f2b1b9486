"""The upstream's use of a file by its media type, and the name of a file without one."""

from __future__ import annotations

import mimetypes
from typing import Literal

from wire.jobs import Attachment

UseCase = Literal["multimodal", "my_files", "ace_upload"]

PICTURES = {
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/png": ".png",
    "image/gif": ".gif",
}
"""Types that the model looks at, and the extensions of their names."""

_DOCUMENTS = {
    "text/x-php": ".php",
    "application/msword": ".doc",
    "text/x-c": ".c",
    "text/html": ".html",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/json": ".json",
    "text/javascript": ".js",
    "application/pdf": ".pdf",
    "text/x-java": ".java",
    "text/x-tex": ".tex",
    "text/x-typescript": ".ts",
    "text/x-sh": ".sh",
    "text/x-csharp": ".cs",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "text/x-c++": ".cpp",
    "application/x-latext": ".latex",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/x-ruby": ".rb",
    "text/x-script.python": ".py",
}
"""Types that the upstream reads and searches. All others go to the code interpreter."""


def use_case(media_type: str) -> UseCase:
    """The upstream's use of files of a media type."""
    if media_type in PICTURES:
        return "multimodal"
    return "my_files" if media_type in _DOCUMENTS else "ace_upload"


def name_of(file: Attachment) -> str:
    """A file's name: the client's, or else its hash, as the predecessor had it."""
    if file.name:
        return file.name
    extension = PICTURES.get(file.type) or _DOCUMENTS.get(file.type)
    return file.sha256 + (extension or mimetypes.guess_extension(file.type) or "")
