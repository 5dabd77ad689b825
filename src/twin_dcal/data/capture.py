"""When and with what a photo was taken, from its EXIF data."""

import re
import warnings
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

from PIL import Image

from .decode import FORMATS

_MAKE, _MODEL, _EXIF = 0x010F, 0x0110, 0x8769
_TAKEN, _SERIAL = 0x9003, 0xA431


@dataclass(frozen=True)
class Capture:
    """taken: local time as in ISO 8601; camera: make, model and serial number. None where the photo does not say."""

    taken: str | None = None
    camera: str | None = None


def capture(data: bytes) -> Capture:
    """What a photo's EXIF data say; nothing for broken data or another kind of file.

    Args: data: bytes that `decode_pixels` has read, so that their EXIF data are known to be quickly read too.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                exif = image.getexif()
                inner = exif.get_ifd(_EXIF)
    except Exception:  # whatever Pillow stumbles over: the pixels were readable, and that is enough
        return Capture()
    parts = [_text(exif.get(_MAKE)), _text(exif.get(_MODEL)), _text(inner.get(_SERIAL))]
    return Capture(_time(_text(inner.get(_TAKEN))), " ".join(filter(None, parts)) or None)


def _text(value: object) -> str:
    return re.sub(r"[^\x20-\x7e]", "", value)[:80].strip() if isinstance(value, str) else ""


def _time(written: str) -> str | None:
    try:
        return datetime.strptime(written, "%Y:%m:%d %H:%M:%S").isoformat()
    except ValueError:
        return None
