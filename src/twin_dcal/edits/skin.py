"""What of a photograph is this face's skin: a colour model of its own cheeks, nose and chin. numpy only.

No model of skin in general would do: under coloured light, in a black and white picture or under make-up, skin has the
colour that these cheeks have.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .face import Camera

Pixels = NDArray[np.uint8]
Array = NDArray[np.float64]

_SAMPLED = (
    (-0.5, 0.45),
    (0.5, 0.45),
    (-0.35, 0.6),
    (0.35, 0.6),
    (0.0, 0.3),
    (-0.1, 0.25),
    (0.1, 0.25),
    (0.0, 1.45),
)
"""Places that are skin in most photographs: cheeks, bridge of the nose, chin."""
_AROUND = 0.08  # half the side of the square sampled at each, in eye distances
_TURNED = 0.3  # cosine to the line of sight below which a place is not sampled
_LIGHT = 0.35  # least standard deviation of log brightness: shading goes on beyond the sampled places
_COLOUR = 0.06  # and of the logarithms of colour ratios
_CLEARLY = 1.5  # standard deviations from the middle up to which a pixel is skin for sure
_DARK = 8.0  # levels added before logarithms, so that noise in shadows does not count


@dataclass(frozen=True, eq=False)
class Skin:
    """Middle and standard deviation of log brightness, log red/green and log blue/green on the skin of one face."""

    middle: Array
    spread: Array

    def likelihood(self, pixels_G3: Pixels) -> Array:
        """How much each pixel looks like this skin, 0 to 1."""
        off = (_features(pixels_G3) - self.middle) / self.spread
        distance = np.sqrt((off**2).sum(axis=-1))
        return np.asarray(np.exp(-0.5 * np.maximum(distance - _CLEARLY, 0) ** 2))


def skin_of(pixels_HW3: Pixels, camera: Camera) -> Skin:
    """The colour model of the face in a photograph; robust to one or two sampled places being something else."""
    line = np.linspace(-_AROUND, _AROUND, 5)
    around = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    places = np.array(_SAMPLED)
    towards = camera.facing(places)
    places = places[towards >= min(_TURNED, towards.max())]
    height, width = pixels_HW3.shape[:2]
    at = np.floor(camera.project((places[:, None] + around).reshape(-1, 2))).astype(int)
    x, y = np.clip(at[:, 0], 0, width - 1), np.clip(at[:, 1], 0, height - 1)
    found = _features(pixels_HW3[y, x])
    middle = np.median(found, axis=0)
    spread = 1.48 * np.median(np.abs(found - middle), axis=0)  # of a normal distribution, from its quartiles
    return Skin(middle, np.maximum(spread, [_LIGHT, _COLOUR, _COLOUR]))


def _features(pixels_G3: Pixels) -> Array:
    red, green, blue = np.moveaxis(np.log(pixels_G3.astype(np.float64) + _DARK), -1, 0)
    return np.stack([(red + green + blue) / 3, red - green, blue - green], axis=-1)
