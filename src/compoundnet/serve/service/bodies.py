"""The images of a request's body: one image as it is, several as multipart/form-data, or base64 in JSON."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import NamedTuple

import msgspec
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

_MULTIPART, _JSON = "multipart/form-data", "application/json"
_UNNAMED = "image"


class BodyError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: HTTP's status code.
        message: One sentence for the client.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class NamedImage(NamedTuple):
    """An image file of a request.

    Attributes:
        name: The name that the client gave it.
        content: The bytes of the file.
    """

    name: str
    content: bytes


# Without the collector, which can find no cycle in bytes and text, a million of them take half the memory.
class JsonImage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An image of a JSON request.

    Attributes:
        data: The bytes of the image file, in base64.
        name: The name of the image in the answer; by default image 1, image 2 and so on.
    """

    data: bytes
    name: str | None = None


class JsonImages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON request: the images, in order."""

    images: list[JsonImage]


async def read_body(request: Request, limit: int) -> bytes:
    """Read the body of a request.

    Raises:
        BodyError: It has more than `limit` bytes; the rest of it is not read.
        starlette.requests.ClientDisconnect: The client left.
    """
    too_large = BodyError(413, f"the request has more than {limit:,} bytes, the limit; send fewer or smaller images")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated[:20]) > limit:
        raise too_large
    received = bytearray()
    async for chunk in request.stream():
        if len(received) + len(chunk) > limit:
            raise too_large
        received += chunk
    return bytes(received)


async def images_of(request: Request, body: bytes, most: int) -> list[NamedImage]:
    """Return the images of a request's body.

    Args:
        request: The request, whose header Content-Type says what the body is.
        body: The body.
        most: The most images.

    Raises:
        BodyError: The body is not what the header says, or holds no images or too many.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _MULTIPART:
        found = await _of_multipart(request, body, most)
    elif kind == _JSON:
        found = _of_json(body, most)  # in a thread it would hold the interpreter as long
    elif kind in ("", "application/octet-stream") or kind.startswith("image/"):
        found = [NamedImage(_UNNAMED, body)] if body else []
    else:
        raise BodyError(
            415,
            f"the header Content-Type says {kind[:100]}; say image/jpeg or the like for one image as it is,"
            f" {_MULTIPART} for several, or {_JSON} for base64",
        )
    if not found:
        raise BodyError(400, "the request holds no image")
    if len(found) > most:
        raise BodyError(413, f"the request holds more than {most:,} images, the limit; send several requests")
    return found


def _of_json(body: bytes, most: int) -> list[NamedImage]:
    """The images, of which one more than `most` shows that there are too many: a body may hold a million."""
    try:
        asked = msgspec.json.decode(body, type=JsonImages)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BodyError(
            400, f'the JSON must be {{"images": [{{"name": NAME, "data": BASE64}}, ...]}}: {str(error)[:200]}'
        ) from error
    images = asked.images[: most + 1]
    return [NamedImage(it.name or f"{_UNNAMED} {index}", it.data) for index, it in enumerate(images, 1)]


class _InMemory(MultiPartParser):
    """Keeps the files of a form in memory, where their bytes are already: nothing is written to a disk."""

    spool_max_size = 1 << 40
    complete = False
    """Whether the last boundary was there."""

    def on_end(self) -> None:
        self.complete = True

    def close(self) -> None:
        """Free the files, also of a part that the form did not end."""
        for file in self._files_to_close_on_error:
            file.close()


async def _of_multipart(request: Request, body: bytes, most: int) -> list[NamedImage]:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    found: list[NamedImage] = []
    parser = _InMemory(request.headers, whole(), max_files=most, max_fields=0)
    try:
        form = await parser.parse()
        for _, file in form.multi_items():
            assert not isinstance(file, str)  # max_fields
            found.append(NamedImage(file.filename or f"{_UNNAMED} {len(found) + 1}", await file.read()))
    except MultiPartException as error:
        status = 413 if "Too many files" in error.message else 400
        if "Too many fields" in error.message:
            raise BodyError(
                400, "each part of the form must be a file, with a filename; a form field is not"
            ) from error
        raise BodyError(status, f"the form cannot be read: {error.message}") from error
    finally:
        parser.close()
    if not parser.complete:
        raise BodyError(400, "the form cannot be read: it ends before its last boundary")
    return found
