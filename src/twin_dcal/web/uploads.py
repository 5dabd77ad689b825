"""A multipart request into memory: bounded before it is read, and never on a disk.

FastAPI's own form reading puts files of more than 1 MB into temporary files; photos must not lie there.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fastapi import Request
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Message, Receive

from twin_dcal.config_text import whole_number
from twin_dcal.plural import plural

from .access import Refusal
from .schemas import Options, wrong_value_message

MAX_PHOTO_BYTES = 20 * 2**20
_FORM_BYTES = 64 * 2**10  # boundaries, part headers and text fields
_TEXT_BYTES = 2**10
_MAX_HEADER = 4096
MAX_PHOTOS = 10
"""Of one person."""
_MAX_PARTS = 2 * MAX_PHOTOS + len(Options.model_fields)
MAX_BODY_BYTES = 2 * MAX_PHOTO_BYTES + _FORM_BYTES
READ_SECONDS = 60.0
DISCARD_SECONDS = 10.0
PHOTOS = ("img1", "img2")
_OPTION = re.compile(rb';\s*([^\s=;"]+)\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^;]*)')


class Body:
    """What a client sends: receives for the application, and throws away what the application left unread."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._unread = True

    async def receive(self) -> Message:
        message = await self._receive()
        self._unread = self._unread and bool(message.get("more_body", False))
        return message

    async def discard(self) -> None:
        """Read on without keeping anything: were the connection closed earlier, a browser would not see the answer."""
        total = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while self._unread and total <= 4 * MAX_BODY_BYTES:
                    total += len((await self.receive()).get("body", b""))


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
    """The photos of either side as they were sent, one or several, and what was asked for."""

    img1: tuple[bytes, ...]
    img2: tuple[bytes, ...]
    options: Options


@dataclass
class _Part:
    """One field of a form: its raw headers by lower-case name, and what it holds."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)

    def named(self) -> tuple[str, bool]:
        """Its field's name, and whether it was sent as a file."""
        options = _options_of("Content-Disposition", self.headers.get(b"content-disposition", b""))
        return options.get(b"name", b"").decode(errors="replace"), b"filename" in options


class _Form:
    """Collects the parts of a form as they arrive; the methods are python_multipart's callbacks."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.complete = False
        self._name, self._value = b"", b""

    def parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin, "on_part_data": self._data, "on_header_begin": self._header,
                "on_header_field": self._header_name, "on_header_value": self._header_value,
                "on_header_end": self._header_end, "on_end": self._end,
            },
        )  # fmt: skip

    def _begin(self) -> None:
        if len(self.parts) == _MAX_PARTS:
            raise Refused.because(400, f"the form has more than {_MAX_PARTS} parts")
        self.parts.append(_Part())

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]

    def _header(self) -> None:
        self._name, self._value = b"", b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        headers, name = self.parts[-1].headers, self._name.lower()
        if name in headers:
            raise Refused.because(400, f"the form has a part with two headers {_shown(self._name)}")
        headers[name] = self._value

    def _end(self) -> None:
        self.complete = True


def announced_bytes(request: Request) -> int:
    """Size of a request's body by its header. Refused: none is named, it is too large, or the body is no form."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise Refused.because(415, "send the photos as multipart/form-data, in the fields img1 and img2")
    length = request.headers.get("content-length", "")
    size = whole_number(length)
    if size is None and not length.isdigit():
        raise Refused.because(411, "send a Content-Length; uploads of unknown size are not read")
    if size is None or size > MAX_BODY_BYTES:
        raise Refused.because(413, _too_large("the request"))
    return size


async def read_upload(request: Request) -> Upload:
    """Both sides' photos and the options. Refused: damaged, incomplete, too large or too slow, or a field is wrong."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            parts = await _parts(request.headers["content-type"], request.stream())
    except TimeoutError:
        raise Refused.because(408, f"the upload did not arrive within {READ_SECONDS:g} seconds") from None
    photos: dict[str, list[bytes]] = {name: [] for name in PHOTOS}
    texts: dict[str, str] = {}
    for part in parts:
        name, is_file = part.named()
        if name in texts:
            raise Refused.because(422, f"{name}: given more than once")
        if name in PHOTOS:
            if len(photos[name]) == MAX_PHOTOS:
                raise Refused.because(422, f"{name}: more than {MAX_PHOTOS} photos of one person")
            photos[name].append(_photo(part, name, is_file))
        elif name in Options.model_fields:
            texts[name] = _text(part, name, is_file)
        else:
            known = ", ".join((*PHOTOS, *Options.model_fields))
            raise Refused.because(422, f"field {name[:40]!r} is unknown; the fields are {known}")
    for name, given in photos.items():
        if not given:
            raise Refused.because(422, f"{name}: missing; send photos of both sides, img1 and img2")
    options = _options(texts)
    for name, faces in (("img1", options.face1), ("img2", options.face2)):
        if len(faces) not in (1, len(photos[name])):
            told = f"{plural(len(faces), 'choice')} for {plural(len(photos[name]), 'photo')}"
            raise Refused.because(422, f"face{name[-1]}: {told}; give one for all, or one for each")
    return Upload(tuple(photos["img1"]), tuple(photos["img2"]), options)


async def _parts(content_type: str, stream: AsyncIterator[bytes]) -> list[_Part]:
    boundary = _options_of("Content-Type", content_type.encode("latin-1")).get(b"boundary")
    if not boundary:
        raise Refused.because(400, "the form cannot be read: its Content-Type names no boundary")
    form, total = _Form(), 0
    try:
        parser = form.parser(boundary)
        async for chunk in stream:
            total += len(chunk)
            if total > MAX_BODY_BYTES:  # whatever its header said
                raise Refused.because(413, _too_large("the request"))
            parser.write(chunk)
        parser.finalize()
    except FormParserError:
        raise Refused.because(400, "the form cannot be read: it is damaged") from None
    if not form.complete:
        raise Refused.because(400, "the form cannot be read: it ends too early")
    return form.parts


def _options_of(header: str, value: bytes) -> dict[bytes, bytes]:
    """What follows the first word of a header's value. Refused: something named twice, where readers may differ."""
    if len(value) > _MAX_HEADER:
        raise Refused.because(
            400, f"the form cannot be read: its {header} is longer than {_MAX_HEADER:,} bytes"
        )
    met: set[bytes] = set()
    for name in (found.lower() for found in _OPTION.findall(value)):
        if name in met:
            raise Refused.because(
                400, f"the form cannot be read: its {header} has two values of {_shown(name)}"
            )
        met.add(name)
    return dict(parse_options_header(value)[1])


def _shown(name: bytes) -> str:
    return repr(name[:40].decode(errors="replace"))


def _photo(part: _Part, name: str, is_file: bool) -> bytes:
    if not is_file:
        raise Refused.because(
            422, f"{name}: sent as text; send it as a file (with curl: -F {name}=@photo.jpg)"
        )
    if len(part.data) > MAX_PHOTO_BYTES:
        raise Refused.because(413, _too_large(name))
    return bytes(part.data)


def _text(part: _Part, name: str, is_file: bool) -> str:
    if is_file:
        raise Refused.because(422, f"{name}: sent as a file; send it as text")
    if len(part.data) > _TEXT_BYTES:
        raise Refused.because(422, f"{name}: {len(part.data):,} bytes of text")
    return part.data.decode(errors="replace")


def _options(texts: dict[str, str]) -> Options:
    try:
        return Options.model_validate(texts)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise Refused.because(422, wrong_value_message(name, texts[name])) from None


def _too_large(what: str) -> str:
    most = MAX_PHOTO_BYTES // 2**20
    return f"{what}: a photo may have up to {most} MB, all together {2 * most} MB. Save them smaller."
