"""Decoding with Pillow, and the cheap check of files on disk. No torch here."""

import stat
import warnings
from importlib import import_module
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

from twin_dcal.errors import ImageError

from .formats import FORMATS_READ, MAX_PIXELS, ends_complete, image_format, is_heic, pixel_size

# Importing a plugin registers its format; no others are offered a file (an EPS would start Ghostscript).
_PLUGINS = (BmpImageFile, JpegImageFile, PngImageFile, PpmImageFile, TiffImageFile, WebPImageFile)
FORMATS = tuple(str(plugin.format) for plugin in _PLUGINS)
_ORIENTATION_TAG = 0x0112
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
_HEAD_BYTES = 4096
_TAIL_BYTES = 64


def read_bytes(source: str | Path) -> bytes:
    """An image file's content. ImageError, in one line, if it is missing, a folder, or cannot be opened."""
    path = Path(source)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: a folder, not an image file") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be opened ({error})") from None


def decode_pixels(data: bytes, name: object, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Any supported image as upright 8-bit RGB.

    Transparent pixels are composited on white; 16-bit grey is scaled by 255/65535 and rounded.
    Args: name: how messages call the image.
    Returns: uint8 (H, W, 3). ImageError if it is not an image, is damaged or has over `max_pixels` pixels, which is
    told from the header.
    """
    if not data:
        raise ImageError(f"{name}: empty file. Restore it or leave it out.")
    if is_heic(data):
        return _decode_heic(data, name, max_pixels)
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                _refuse_bomb(*image.size, name, max_pixels)
                image.load()  # before EXIF is asked for, which would decode a PNG and hide its damage
                return rgb_pixels(image, name)
        except UnidentifiedImageError:
            raise ImageError(f"{name}: not an image ({FORMATS_READ} are read)") from None
        except Image.DecompressionBombError:
            raise ImageError(f"{name}: more than {max_pixels:,} pixels. Scale it down first.") from None
        except ImageError:
            raise
        except Exception as error:  # Pillow's plugins raise whatever their parser stumbles over.
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ImageError(f"{name}: truncated or damaged ({reason}). Restore the file.") from None


def _decode_heic(data: bytes, name: object, max_pixels: int) -> np.ndarray:
    """As `decode_pixels`, for the format of telephones; libheif turns pictures upright itself."""
    try:
        heif = import_module("pillow_heif")
    except ImportError:
        raise ImageError(f"{name}: a HEIC file. Reading it needs pip install 'twin-dcal[heic]'.") from None
    try:
        file = heif.open_heif(BytesIO(data), convert_hdr_to_8bit=True)
        _refuse_bomb(file.size[0], file.size[1], name, max_pixels)
        return np.array(_to_rgb(file.to_pillow(), name))
    except ImageError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: truncated or damaged ({reason}). Restore the file.") from None


def rgb_pixels(image: Image.Image, name: object) -> np.ndarray:
    """A Pillow image as `decode_pixels` gives it: upright by its EXIF data, 8-bit RGB (H, W, 3), in a new array."""
    return np.array(_to_rgb(_turn_upright(image), name))


def damage(path: Path, *, thorough: bool = False) -> str | None:
    """What keeps an image file from being used, None if nothing is seen.

    Cheap for sound files (first and last bytes): only a file that looks odd is decoded, so damage in the middle is not
    seen. With `thorough` every file is.
    """
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            return "a folder, not a file"
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
    except ImageError:
        return "not an image" if image_format(head) is None else "truncated or damaged"
    return None


def _refuse_bomb(width: int, height: int, name: object, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width}x{height} is more than {max_pixels:,} pixels. Scale it down first.")


def _turn_upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # broken EXIF does not make the pixels unreadable
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _to_rgb(image: Image.Image, name: object) -> Image.Image:
    if image.mode == "F":
        raise ImageError(f"{name}: floating point pixels have no known range. Save it as 8-bit PNG.")
    if image.mode.startswith("I"):  # 16-bit PNG and PGM; Pillow scales a PGM's own maximum to 65535
        levels_HW = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        return Image.fromarray(((levels_HW * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), with_alpha).convert("RGB")
    return image.convert("RGB")
