"""Maps drawn over faces, as arrays of pixels. No torch here.

The face is shown in grey between fixed tones, so that colour comes from the map alone whatever the skin: blue for
"supports same" and orange for "supports different", which all common forms of colour blindness tell apart; viridis for
maps without a sign. Where a map says nothing the face is untouched grey.
"""

from io import BytesIO

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from twin_dcal.data.fit import central, scaled, sides
from twin_dcal.image_size import ImageSize

Pixels = NDArray[np.uint8]

SAME, DIFFERENT = (0, 114, 255), (255, 121, 0)
OPACITY = 0.8
_DARKEST, _BRIGHTEST = 50, 225
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def overlay(
    pixels_HWC: Pixels, map_hw: NDArray[np.floating], *, signed: bool, reach: float | None = None
) -> Pixels:
    """A face with a map over it, (H, W, 3) uint8.

    Args: pixels (H, W, 3) uint8; map (h, w) of any size, laid over the whole picture; signed: opacity grows with the
    value's distance from 0, up to `reach` (None: the largest of this map; give one value for maps that are compared).
    Unsigned maps are shown from their smallest to their largest value, or to `reach`.
    """
    values = resized(map_hw, (pixels_HWC.shape[0], pixels_HWC.shape[1]))
    if signed:
        most = reach or float(np.abs(map_hw).max()) or 1.0
        strength = np.clip(np.abs(values) / most, 0, 1)
        colour = np.where(values[..., None] > 0, np.array(SAME), np.array(DIFFERENT))
    else:
        low = float(map_hw.min())
        strength = np.clip((values - low) / ((reach or float(map_hw.max())) - low or 1.0), 0, 1)
        colour = 255 * colormaps["viridis"](strength)[..., :3].astype(np.float32)
    alpha = (OPACITY * strength)[..., None]
    return np.asarray((1 - alpha) * grey(pixels_HWC) + alpha * colour + 0.5, np.uint8)


def chosen_overlay(pixels_HWC: Pixels, chosen_hw: NDArray[np.bool_]) -> Pixels:
    """The chosen patches as they are, all others dimmed grey, (H, W, 3) uint8."""
    rows, columns = pixels_HWC.shape[:2]
    patches = Image.fromarray(chosen_hw.astype(np.uint8) * 255).resize(
        (columns, rows), Image.Resampling.NEAREST
    )
    return np.where(np.asarray(patches)[..., None] > 0, pixels_HWC, grey(pixels_HWC) * 0.45).astype(np.uint8)


def grey(pixels_HWC: Pixels) -> NDArray[np.float32]:
    """(H, W, 3) between two tones that leave room for colour on dark and on light skin."""
    luma = (pixels_HWC @ _LUMA)[..., None] / 255
    return np.repeat(_DARKEST + (_BRIGHTEST - _DARKEST) * luma, 3, axis=-1).astype(np.float32)


def resized(map_hw: NDArray[np.floating], size: ImageSize) -> NDArray[np.float32]:
    """(rows, columns) of `size`: bilinear between the centres of the map's cells."""
    rows, columns = sides(size)
    image = Image.fromarray(np.ascontiguousarray(map_hw, np.float32))
    return np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR))


def seen(map_HW: NDArray[np.floating], size: ImageSize) -> NDArray[np.floating]:
    """Of a map over a whole picture, the part over what the network sees of it (`data.fit`)."""
    return map_HW[central(map_HW.shape, size)]


def enlarged(pixels_HWC: Pixels, longer: int) -> Pixels:
    """The same with a longer side of so many pixels, uint8; small faces are easier to look at when shown larger."""
    rows, columns = scaled((pixels_HWC.shape[0], pixels_HWC.shape[1]), longer)
    return np.asarray(Image.fromarray(pixels_HWC).resize((columns, rows), Image.Resampling.BICUBIC))


def png(pixels_HWC: Pixels) -> bytes:
    """The bytes of a PNG file."""
    data = BytesIO()
    Image.fromarray(pixels_HWC).save(data, "PNG", optimize=True)
    return data.getvalue()
