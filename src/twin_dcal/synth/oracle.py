"""The best any verifier could do: one that knows both twins' faces and everything about the photo but its noise.

For a photo of one of two people, both are rendered under the photo's own circumstances; the position of the photo on
the line from one rendering to the other says whose it is. Two photos are of the same person when they lie on the same
side: the score of a pair is the product of their positions.
"""

import numpy as np
from numpy.typing import NDArray

from .known import Known, know
from .photo import Photo

__all__ = ["Known", "know", "pair_score", "position"]


def position(pixels: NDArray[np.uint8], photo: Photo, one: Known, other: Known) -> float:
    """Where a photo lies between two people: +1 is `one`, -1 is `other`, 0 where nothing tells them apart.

    Args: pixels: (S, S, 3) as taken (or read from the file); photo: its circumstances, which both are given.
    """
    size = pixels.shape[0]
    first, second = one.ideal(photo, size), other.ideal(photo, size)
    apart = first - second
    length = float((apart**2).sum())
    return float(2 * ((pixels - (first + second) / 2) * apart).sum() / length) if length else 0.0


def pair_score(positions: tuple[float, float]) -> float:
    """High when two photos lie on the same side; both positions bounded, so that noise cannot outweigh the sign."""
    first, second = np.clip(positions, -1, 1)
    return float(first * second)
