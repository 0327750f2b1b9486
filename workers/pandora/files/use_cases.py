"""`use_case` and file name of an upload, by media type."""

from __future__ import annotations

import mimetypes
from typing import Literal

from wire.jobs import Attachment
from wire.media_types import DOCUMENTS, PICTURES

UseCase = Literal["multimodal", "my_files", "ace_upload"]
"""An image the model sees; a document it reads and searches; data for the code interpreter."""


def use_case(media_type: str) -> UseCase:
    """Return the upstream's `use_case` for a media type."""
    if media_type in PICTURES:
        return "multimodal"
    return "my_files" if media_type in DOCUMENTS else "ace_upload"


def upload_name(file: Attachment) -> str:
    """Return the client's file name or, without one, the SHA-256 with an extension."""
    # As the predecessor named them.
    if file.name:
        return file.name
    extension = PICTURES.get(file.type) or DOCUMENTS.get(file.type)
    return file.sha256 + (extension or mimetypes.guess_extension(file.type) or "")
