"""A multipart request into memory: bounded before it is read, never spooled to the disk.

FastAPI's own form reading writes files of more than 1 MB into temporary files; photos must not lie on a disk.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Receive

from .access import Refusal
from .schemas import Options

MAX_PHOTO_BYTES = 20 * 2**20
_FORM_BYTES = 64 * 2**10  # boundaries, part headers and text fields
_TEXT_BYTES = 2**10
MAX_BODY_BYTES = 2 * MAX_PHOTO_BYTES + _FORM_BYTES
READ_SECONDS = 60.0
_DISCARD_SECONDS = 10.0
PHOTOS = ("img1", "img2")


class Refused(Exception):
    """A request that cannot be served, with the answer to give."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal

    @classmethod
    def because(cls, status: int, reason: str) -> "Refused":
        return cls(Refusal(status, reason))


@dataclass(frozen=True)
class Upload:
    """Two photos as they were sent, and what was asked for."""

    img1: bytes
    img2: bytes
    options: Options


class _InMemory(MultiPartParser):
    spool_max_size = MAX_BODY_BYTES + 1  # more than is read: the spooled file stays in memory


def announced_bytes(request: Request) -> int:
    """Size of a request's body by its header. Refused: none is named, it is too large, or the body is no form."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refused.because(415, "send the photos as multipart/form-data, in the fields img1 and img2")
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise Refused.because(411, "send a Content-Length; uploads of unknown size are not read")
    if int(length) > MAX_BODY_BYTES:
        raise Refused.because(413, _too_large("the request"))
    return int(length)


async def read_upload(request: Request) -> Upload:
    """Both photos and the options. Refused: damaged, incomplete, too large or too slow, or a field is wrong."""
    stream = _counted(request.stream())
    parser = _InMemory(request.headers, stream, max_files=2, max_fields=8, max_part_size=_TEXT_BYTES)
    try:
        async with asyncio.timeout(READ_SECONDS):
            form = await parser.parse()
    except TimeoutError:
        raise Refused.because(408, f"the upload did not arrive within {READ_SECONDS:g} seconds") from None
    except MultiPartException as error:
        raise Refused.because(400, f"the form cannot be read: {error.message}") from None
    except (ValueError, LookupError):  # names in an encoding that does not fit them
        raise Refused.because(400, "the form cannot be read: its text is damaged") from None
    try:
        return await _checked(form)
    finally:
        await form.close()


async def discard(receive: Receive) -> None:
    """Read the rest of a refused body without keeping it: closed earlier, a browser would not see the answer."""
    total = 0
    try:
        async with asyncio.timeout(_DISCARD_SECONDS):
            while total <= 4 * MAX_BODY_BYTES:
                message = await receive()
                total += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


async def _checked(form: FormData) -> Upload:
    items = form.multi_items()
    names = [name for name, _ in items]
    known = (*PHOTOS, *Options.model_fields)
    for name in names:
        if name not in known:
            raise Refused.because(422, f"field {name[:40]!r} is unknown; the fields are {', '.join(known)}")
        if names.count(name) > 1:
            raise Refused.because(422, f"{name}: given {names.count(name)} times")
    one, two = [await _photo(form.get(name), name) for name in PHOTOS]
    texts = {name: value for name, value in items if name not in PHOTOS}
    return Upload(one, two, _options(texts))


async def _photo(part: UploadFile | str | None, name: str) -> bytes:
    if part is None:
        raise Refused.because(422, f"{name}: missing; send two photos, img1 and img2")
    if isinstance(part, str):
        raise Refused.because(422, f"{name}: sent as text; send it as a file (with curl: -F {name}=@photo.jpg)")
    if (part.size or 0) > MAX_PHOTO_BYTES:
        raise Refused.because(413, _too_large(name))
    return await part.read()


def _options(texts: dict[str, UploadFile | str]) -> Options:
    for name, value in texts.items():
        if not isinstance(value, str):
            raise Refused.because(422, f"{name}: sent as a file; send it as text")
    try:
        return Options.model_validate(texts)
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused.because(422, f"{first['loc'][0]}: {first['msg']}") from None


async def _counted(stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The stream, refused where it outgrows what it may have, whatever its header said."""
    total = 0
    async for chunk in stream:
        total += len(chunk)
        if total > MAX_BODY_BYTES:
            raise Refused.because(413, _too_large("the request"))
        yield chunk


def _too_large(what: str) -> str:
    return f"{what}: a photo may have up to {MAX_PHOTO_BYTES // 2**20} MB. Save it smaller."
