"""Decoding with Pillow and `jpeg`, and the cheap check of files on disk. No torch here."""

import re
import warnings
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from twin_dcal.errors import CostlyImageError, ImageError
from twin_dcal.files import no_file

from .cost import refuse_costly, refuse_costly_tags
from .formats import FORMATS_READ, MAX_PIXELS, ends_complete, image_format, is_heic, pixel_size, video_format
from .heic import decode_heic
from .jpeg import jpeg_pixels
from .libtiff import heard

# Importing a plugin registers its format; no others are offered a file (an EPS would start Ghostscript).
_PLUGINS = {
    "bmp": BmpImageFile, "jpeg": JpegImageFile, "png": PngImageFile, "pnm": PpmImageFile, "tiff": TiffImageFile,
    "webp": WebPImageFile,
}  # fmt: skip
FORMATS = tuple(str(plugin.format) for plugin in _PLUGINS.values())
_ORIENTATION_TAG, _BITS_TAG = 0x0112, 0x0102
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ONE_AT_A_TIME = Lock()  # warnings.catch_warnings is not thread-safe
VIDEOS_TAKEN = (
    "Videos are taken from files by engine.verify, dcal-verify --img1 --img2, and searches of a gallery."
)
_UNDECODED = "its data cannot be decoded to the end"
_HEAD_BYTES = 4096
_TAIL_BYTES = 64


MAX_BYTES = 2**30
"""Of an image file; the largest picture that is read takes less than half of that uncompressed."""


def read_bytes(source: str | Path) -> bytes:
    """An image file's content.

    ImageError, in one line, if it is missing, a folder, cannot be opened, or is no file that ends: a pipe or a device
    could be waited for without end.
    """
    path = Path(source)
    try:
        info = path.stat()
        if other := no_file(info.st_mode):
            raise ImageError(f"{path}: {other}, not an image file")
        if info.st_size > MAX_BYTES:
            raise ImageError(f"{path}: larger than any image that is read ({MAX_BYTES >> 30} GiB)")
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be opened ({error})") from None


def decode_pixels(data: bytes, name: object, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Any supported image as upright 8-bit RGB.

    Transparent pixels are composited on white; 16-bit grey is scaled by 255/65535 and rounded.
    Args: name: how messages call the image.
    Returns: uint8 (H, W, 3). ImageError if it is not an image, is damaged, has over `max_pixels` pixels, or is made so
    that decoding would take long; both are told from its structure (`cost`).
    """
    if not data:
        raise ImageError(f"{name}: empty file. Restore it or leave it out.")
    if is_heic(data):
        return decode_heic(data, name, max_pixels)
    kind = image_format(data)
    if kind is None:
        if video_format(data[:16]):
            raise ImageError(f"{name}: a video, not an image. {VIDEOS_TAKEN}")
        raise ImageError(f"{name}: not an image ({FORMATS_READ} are read)")
    refuse_costly(data, name, max_pixels)
    listening: AbstractContextManager[list[str]] = heard() if kind == "tiff" else nullcontext([])
    with _ONE_AT_A_TIME, warnings.catch_warnings(), listening as damage_heard:
        warnings.simplefilter("ignore")
        try:
            # No other plugin is asked: what was looked at is what is decoded.
            with Image.open(BytesIO(data), formats=[str(_PLUGINS[kind].format)]) as image:
                _refuse_bomb(*image.size, name, max_pixels)
                if (
                    isinstance(image, TiffImageFile)
                    and image.mode == "I"
                    and image.tag_v2.get(_BITS_TAG) == (32,)
                ):
                    raise ImageError(f"{name}: 32-bit pixels have no known range. Save it as 8-bit PNG.")
                if kind == "jpeg" and (pixels_HWC := _of_jpeg(data, image, name)) is not None:
                    return pixels_HWC
                image.load()  # before EXIF is asked for, which would decode a PNG and hide its damage
                if damage_heard:
                    raise ValueError(_UNDECODED)
                return rgb_pixels(image, name)
        except UnidentifiedImageError:
            raise ImageError(f"{name}: not an image ({FORMATS_READ} are read)") from None
        except Image.DecompressionBombError:
            raise ImageError(f"{name}: more than {max_pixels:,} pixels. Scale it down first.") from None
        except ImageError:
            raise
        except Exception as error:  # Pillow's plugins raise whatever their parser stumbles over.
            reason = " ".join(str(error).split()) or type(error).__name__
            if re.fullmatch(r"-?\d+", reason):  # the number that a decoder ended with
                reason = _UNDECODED
            raise ImageError(f"{name}: truncated or damaged ({reason}). Restore the file.") from None


def refuse_damaged_jpeg(data: bytes, name: object) -> np.ndarray | None:
    """ImageError, in one line, for a JPEG file whose data do not fill its picture; else its pixels, not yet upright.

    None for other formats, and for JPEG files that only Pillow decodes.
    """
    if image_format(data) != "jpeg":
        return None
    pixels_HWC, problem = jpeg_pixels(data)
    if problem:
        raise ImageError(f"{name}: truncated or damaged ({problem}). Restore the file.")
    return pixels_HWC


def _of_jpeg(data: bytes, image: Image.Image, name: object) -> np.ndarray | None:
    """What `rgb_pixels` gives for an opened JPEG file; None if Pillow is to decode it (CMYK, whose inks it knows)."""
    pixels_HWC = refuse_damaged_jpeg(data, name)
    if pixels_HWC is None or image.mode not in ("RGB", "L") or pixels_HWC.shape[1::-1] != image.size:
        return None
    refuse_costly_tags(image.info, name)
    turn = _orientation(image)
    return pixels_HWC if turn is None else np.array(Image.fromarray(pixels_HWC).transpose(turn))


def rgb_pixels(image: Image.Image, name: object) -> np.ndarray:
    """A Pillow image as `decode_pixels` gives it: upright by its EXIF data, 8-bit RGB (H, W, 3), in a new array.

    ImageError for pixels of no known range, and for EXIF data that would take long to read.
    """
    refuse_costly_tags(image.info, name)
    return np.array(to_rgb(_turn_upright(image), name))


def damage(path: Path, *, thorough: bool = False) -> str | None:
    """What keeps an image file from being used, None if nothing is seen.

    Cheap for sound files (first and last bytes): only a file that looks odd is decoded, so damage in the middle is not
    seen. With `thorough` every file is.
    """
    try:
        info = path.stat()
        if other := no_file(info.st_mode):
            return f"{other}, not a file"
        if info.st_size > MAX_BYTES:
            return f"larger than {MAX_BYTES >> 30} GiB"
        if info.st_size == 0:
            return "empty file"
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            file.seek(-min(_TAIL_BYTES, info.st_size), 2)
            tail = file.read()
        width, height = pixel_size(head) or (0, 0)
        if width * height > MAX_PIXELS:
            return f"more than {MAX_PIXELS:,} pixels"
        if thorough or not ends_complete(head, tail, info.st_size):
            decode_pixels(path.read_bytes(), path)
    except (FileNotFoundError, NotADirectoryError):
        return "no such file"
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return "cannot be opened"
    except CostlyImageError:
        return "would take too long to decode"
    except ImageError:
        return "not an image" if image_format(head) is None else "truncated or damaged"
    return None


def _refuse_bomb(width: int, height: int, name: object, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width}x{height} is more than {max_pixels:,} pixels. Scale it down first.")


def _turn_upright(image: Image.Image) -> Image.Image:
    turn = _orientation(image)
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """What turns a picture upright, by its EXIF data; None if nothing does."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF does not make the pixels unreadable
        return None


def to_rgb(image: Image.Image, name: object) -> Image.Image:
    """A picture of any mode in 8-bit RGB, as `decode_pixels` gives it. ImageError for floating point pixels."""
    if image.mode == "F":
        raise ImageError(f"{name}: floating point pixels have no known range. Save it as 8-bit PNG.")
    if image.mode.startswith("I"):  # 16-bit PNG and PGM; Pillow scales a PGM's own maximum to 65535
        levels_HW = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        return Image.fromarray(((levels_HW * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), with_alpha).convert("RGB")
    return image.convert("RGB")
