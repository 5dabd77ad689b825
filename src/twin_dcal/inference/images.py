"""A picture, whatever a caller holds it as, to upright 8-bit RGB pixels. torch is not imported here."""

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twin_dcal.data.cost import refuse_costly
from twin_dcal.data.decode import decode_pixels, read_bytes, refuse_damaged_jpeg, rgb_pixels
from twin_dcal.data.formats import MAX_PIXELS
from twin_dcal.errors import ImageError

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any  # signatures are told without torch, too

ImageInput: TypeAlias = str | Path | bytes | IO[bytes] | Image.Image | NDArray[Any] | Tensor


def read_pixels(source: ImageInput, name: str = "image") -> NDArray[np.uint8]:
    """Pixels of a picture, uint8 (H, W, 3), RGB, upright.

    Args: source: a path, a file's bytes, an open file (BytesIO too; read from its start and left where it stood), a PIL
        image, an array (H, W, 3) or (H, W) in RGB order (OpenCV's is BGR: turn it round), or a tensor (3, H, W); arrays
        and tensors are uint8, or floating point in [0, 1].
        name: how messages call it; a path is called by its own name.
    ImageError, in one line, for anything else, damaged files and more than 100 million pixels.
    """
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        raise ImageError(f"{source}: addresses are not fetched; save the picture and name its file")
    if isinstance(source, str | Path):
        return decode_pixels(read_bytes(source), source)
    if isinstance(source, bytes | bytearray | memoryview):
        return decode_pixels(bytes(source), name)
    if callable(getattr(source, "read", None)):
        return decode_pixels(_read_open(cast(IO[bytes], source), name), name)
    if isinstance(source, Image.Image):
        return _of_pillow(source, name)
    if isinstance(source, np.ndarray):
        return _of_array(source, name)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.Tensor):
        values = _plain(source, name)
        if values.ndim != 3 or values.shape[0] != 3:
            raise ImageError(
                f"{name}: a tensor of shape {tuple(values.shape)}; give (3, H, W), one picture at a time"
            )
        if values.is_floating_point():
            values = values.float()  # numpy has no bfloat16
        return _of_array(values.permute(1, 2, 0).numpy(), name)
    raise ImageError(
        f"{name}: a {type(source).__name__}; give a path, bytes, an open file, a PIL image, an array or a tensor"
    )


def _plain(tensor: Tensor, name: str) -> Tensor:
    """The tensor on the CPU, dense and of plain numbers."""
    if (
        tensor.is_meta
        or tensor.is_quantized
        or tensor.is_nested
        or tensor.layout != sys.modules["torch"].strided
    ):
        raise ImageError(
            f"{name}: a tensor without plain values (meta, sparse, nested or quantized); give a dense one"
        )
    return tensor.detach().cpu()


def _read_open(file: IO[bytes], name: str) -> bytes:
    """All bytes of an open file, which is left where it stood, so that it can be given twice."""
    try:
        if not file.seekable():
            data = file.read()
        else:
            stood = file.tell()
            file.seek(0)
            data = file.read()
            file.seek(stood)
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise ImageError(f"{name}: an open file that cannot be read ({error})") from None
    if not isinstance(data, bytes):
        raise ImageError(f"{name}: a file opened for text; open it with mode 'rb'")
    return data


def _of_pillow(image: Image.Image, name: str) -> NDArray[np.uint8]:
    _refuse_size(image.width, image.height, name)
    file = getattr(image, "fp", None)
    if file is not None and getattr(image, "tile", None):  # opened lazily, and decoded only now
        data = _read_open(file, name)
        refuse_costly(data, name, MAX_PIXELS)
        refuse_damaged_jpeg(data, name)
    try:
        return rgb_pixels(image, name)
    except ImageError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: truncated or damaged ({reason})") from None


def _of_array(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ImageError(f"{name}: an array of shape {array.shape}; give (H, W, 3) in RGB, or (H, W)")
    _refuse_size(array.shape[1], array.shape[0], name)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise ImageError(f"{name}: an array of {array.dtype}; give uint8, or floating point in [0, 1]")
    if not (array.min() >= 0 and array.max() <= 1):  # also false for NaN
        raise ImageError(
            f"{name}: values from {array.min():.4g} to {array.max():.4g}; floating point must lie in [0, 1]"
        )
    return np.asarray((array * 255).round().astype(np.uint8))


def _refuse_size(width: int, height: int, name: str) -> None:
    if not (width and height):
        raise ImageError(f"{name}: {width}x{height} is no picture")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name}: {width}x{height} is more than {MAX_PIXELS:,} pixels. Scale it down first.")
