"""Endpoints of files: those of the API, and the host that stores the bytes."""

from __future__ import annotations

import asyncio
from typing import Literal
from urllib.parse import quote

import msgspec
from aiohttp import web

from simulator import content
from simulator.errors import NO_CONVERSATION, NOT_FOUND, RefusedError, bad_json, detail, storage
from simulator.errors import invalid as invalid_field
from simulator.files import File, Intake
from simulator.handlers import bearer_of, side_host
from simulator.state import State

_EXPIRY = "2099-01-01T00%3A00%3A00Z"


class Upload(msgspec.Struct, frozen=True):
    """The body of `POST /files`."""

    file_name: str
    file_size: int
    use_case: Literal["multimodal", "my_files", "ace_upload"]


class FilesApi:
    """`/backend-api/files` and the sandbox's files."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def create(self, request: web.Request) -> web.Response:
        """First step: return an address for the upload."""
        bearer = bearer_of(request)
        body = await request.read()
        script = self._state.scripts.standing(bearer)
        try:
            asked = msgspec.json.decode(body, type=Upload)
        except msgspec.ValidationError as error:
            self._state.counts.invalid += 1
            raise RefusedError(invalid_field([], str(error))) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise RefusedError(bad_json(body)) from None
        if script.upload == "403":
            raise RefusedError(detail(403, "You may not upload files."))
        if script.upload == "error":
            return web.json_response(_error("file_upload_refused", "The file was refused."))
        file = self._state.files.expect(
            bearer, asked.file_name, asked.file_size, asked.use_case, script
        )
        url = self._address(request, file, f"se={_EXPIRY}&sp=cw&sv=2021-08-06&sr=b")
        return web.json_response({"status": "success", "upload_url": url, "file_id": file.id})

    async def uploaded(self, request: web.Request) -> web.Response:
        """Third step: accept the uploaded bytes. It works once."""
        file = self._file(request)
        if file.state == "ready":
            self._state.counts.invalid += 1
            raise RefusedError(detail(400, "File has already been processed."))
        if file.state == "expected" or file.script.upload == "uploaded":
            return web.json_response(_error("file_not_found", None))
        file.state = "ready"
        self._state.counts.uploads += 1
        return web.json_response(self._success(request, file))

    async def info(self, request: web.Request) -> web.Response:
        """Return the state of a file; a document is indexed after some polls."""
        file = self._file(request)
        indexing = file.use_case == "my_files" and file.polls < file.script.index
        file.polls += 1
        status = "parsing" if indexing else "success"
        tokens = None if indexing else max(1, file.size // 4)
        return web.json_response(
            {
                "id": file.id,
                "name": file.name,
                "creation_time": file.created.isoformat(),
                "state": "ready" if file.state == "ready" else "created",
                "ready_time": file.created.isoformat() if file.state == "ready" else None,
                "size": file.size,
                "metadata": {"retrieval": {"status": status, "file_size_tokens": tokens}},
                "use_case": file.use_case,
                "retrieval_index_status": status,
                "file_size_tokens": tokens,
                "variants": None,
            }
        )

    async def download(self, request: web.Request) -> web.Response:
        """Return the address of a file's bytes."""
        file = self._file(request)
        match file.script.download:
            case None:
                pass
            case "error":
                return web.json_response(_error("file_not_found", None))
            case status:
                raise RefusedError(detail(int(status), "The file cannot be downloaded."))
        if file.state != "ready":
            return web.json_response(_error("file_not_found", None))
        return web.json_response(self._success(request, file))

    async def sandbox(self, request: web.Request) -> web.Response:
        """Return the same for a file in the sandbox, to which a message must have a link."""
        bearer = bearer_of(request)
        known = self._state.history.find(request.match_info["id"], bearer)
        if known is None:
            raise RefusedError(NO_CONVERSATION)
        match known.script.sandbox:
            case "404" | "500" as status:
                raise RefusedError(detail(int(status), "The file cannot be downloaded."))
            case fault:
                gone = fault == "expired" or known.private
        if gone:
            return web.json_response(_error("ace_pod_expired", None))
        path = request.query.get("sandbox_path", "")
        if not known.offers(request.query.get("message_id", ""), path):
            return web.json_response(_error("file_not_found", None))
        name = path.rpartition("/")[2]
        made = content.document(name, known.script.size)
        file = self._state.files.make(bearer, name, made, known.script)
        self._state.counts.sandbox += 1
        return web.json_response(self._success(request, file))

    def _file(self, request: web.Request) -> File:
        file = self._state.files.owned(request.match_info["id"], bearer_of(request))
        if file is None:
            raise RefusedError(detail(404, {"message": "File not found", "code": "file_not_found"}))
        return file

    def _success(self, request: web.Request, file: File) -> dict[str, object]:
        disposition = quote(f"attachment; filename={quote(file.name)}", safe="")
        query = (
            f"se={_EXPIRY}&sp=r&sv=2021-08-06&sr=b"
            f"&rscc=max-age%3D31536000%2C%20immutable&rscd={disposition}"
        )
        return {
            "status": "success",
            "download_url": self._address(request, file, query),
            "metadata": {},
            "file_name": file.name,
            "creation_time": file.created.isoformat(),
        }

    def _address(self, request: web.Request, file: File, query: str) -> str:
        """Make a signed address on the storage host, under the host name that the client used."""
        host = side_host(request, self._state.side_port)
        return f"http://{host}/{file.id}?{query}&sig={file.signature}"


class Storage:
    """The host that stores the bytes. It checks signatures and knows no bearers."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def put(self, request: web.Request) -> web.Response:
        """Second step of an upload: receive the bytes."""
        file = self._file(request, "cw")
        if request.headers.get("x-ms-blob-type") != "BlockBlob":
            raise RefusedError(storage(400, "MissingRequiredHeader"))
        if file.script.upload == "put":
            raise RefusedError(storage(403, "AuthenticationFailed"))
        intake = Intake()
        async for piece in request.content.iter_chunked(256 * 1024):
            intake.feed(piece)
        if intake.size != file.size:
            raise RefusedError(storage(400, "InvalidContentLength"))
        intake.store(file, request.headers.get("Content-Type", ""))
        return web.Response(status=201)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Send the bytes of a file."""
        file = self._file(request, "r")
        fault = file.script.blob
        if fault in ("403", "404", "500"):
            raise RefusedError(storage(int(fault), "BlobNotFound"))
        if file.content is None:
            raise RefusedError(storage(404, "BlobNotFound"))
        response = web.StreamResponse(
            headers={
                "Content-Type": file.content.mime,
                "Content-Length": str(file.content.size),
                "Content-Disposition": request.query.get("rscd", "attachment"),
                "Cache-Control": "max-age=31536000, immutable",
            }
        )
        await response.prepare(request)
        left = file.content.size
        for piece in file.content.pieces():
            if fault is not None:
                await self._break(request, response, piece, stall=fault == "stall")
                return response
            left -= len(piece)
            if left == 0:
                # Before the last bytes are sent, so that a client that has them all sees the count.
                self._state.counts.downloads += 1
            await response.write(piece)
        await response.write_eof()
        return response

    async def _break(
        self, request: web.Request, response: web.StreamResponse, piece: bytes, *, stall: bool
    ) -> None:
        """Send half of a piece, then stall or close the connection."""
        await response.write(piece[: len(piece) // 2])
        if stall:
            await asyncio.Event().wait()
        if request.transport is not None:
            request.transport.close()

    def _file(self, request: web.Request, right: str) -> File:
        file = self._state.files.get(request.match_info["id"])
        if file is None:
            raise RefusedError(NOT_FOUND)
        signed = request.query.get("sig") == file.signature
        if not signed or request.query.get("sp") != right:
            raise RefusedError(storage(403, "AuthenticationFailed"))
        return file


def _error(code: str, message: str | None) -> dict[str, str | None]:
    return {"status": "error", "error_code": code, "error_message": message}
