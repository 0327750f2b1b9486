"""`use_case` and file name of an upload, by media type."""

from __future__ import annotations

import mimetypes
from typing import Literal

from wire.jobs import Attachment

UseCase = Literal["multimodal", "my_files", "ace_upload"]
"""An image the model sees; a document it reads and searches; data for the code interpreter."""

IMAGE_EXTENSIONS = {
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/png": ".png",
    "image/gif": ".gif",
}
"""Image types the model can see, with the file extension of each."""

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
    "application/x-latext": ".latex",  # sic: the predecessor's list
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/x-ruby": ".rb",
    "text/x-script.python": ".py",
}
"""Types that the upstream reads and searches. All others go to the code interpreter."""


def use_case(media_type: str) -> UseCase:
    """Return the upstream's `use_case` for a media type."""
    if media_type in IMAGE_EXTENSIONS:
        return "multimodal"
    return "my_files" if media_type in _DOCUMENTS else "ace_upload"


def upload_name(file: Attachment) -> str:
    """Return the client's file name or, without one, the SHA-256 with an extension."""
    # As the predecessor named them.
    if file.name:
        return file.name
    extension = IMAGE_EXTENSIONS.get(file.type) or _DOCUMENTS.get(file.type)
    return file.sha256 + (extension or mimetypes.guess_extension(file.type) or "")
