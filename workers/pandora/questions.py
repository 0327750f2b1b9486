"""Preparation of a question: the files of its job are uploaded and its GPT is found."""

from __future__ import annotations

from collections.abc import Mapping

from wire.jobs import ChatJob, Identity
from workers.pandora.files.uploaded import Uploaded
from workers.pandora.files.uploads import Uploads
from workers.pandora.gpts import Gpts
from workers.pandora.payload import Question


class Questions:
    """Turns jobs into questions. `keep_history` as in `Question`."""

    def __init__(self, uploads: Uploads, gpts: Gpts, *, keep_history: bool = True) -> None:
        self._uploads = uploads
        self._gpts = gpts
        self._keep_history = keep_history

    async def upload(self, job: ChatJob) -> dict[Identity, Uploaded]:
        """Upload the files of a job; see `Uploads.upload`."""
        return await self._uploads.upload(job)

    async def prepare(self, job: ChatJob, uploaded: Mapping[Identity, Uploaded]) -> Question:
        """The question of a job with these files.

        Raises:
            UpstreamError: the job's GPT cannot be reached.
        """
        gizmo = await self._gpts.find(job.gpt, job.bearer) if job.gpt else None
        return Question(job, uploaded, gizmo, self._keep_history)
