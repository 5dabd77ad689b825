"""Where a face lies in a crop: landmark templates. numpy only.

Landmarks are in YuNet's order: eye on the viewer's left, eye on the right, tip of the nose, corner of the mouth left,
right; (x, y) in a crop of side 1 with x to the right and y down.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(5, 2)"""
TemplateName = Literal["ours", "arcface112"]

OURS: NDArray[np.float64] = np.array(
    [[0.3594, 0.4759], [0.6406, 0.4759], [0.5, 0.6455], [0.3797, 0.7732], [0.6203, 0.7732]]
)
"""Crops of `dcal-prepare`: the mean of YuNet's landmarks over 644 crops of a look-alike set that was aligned with a
margin around hairline, ears and chin, made symmetric. The eyes are 0.28 of the side apart."""

ARCFACE112: NDArray[np.float64] = (
    np.array(
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    )
    + 0.5  # published as OpenCV counts, from the centres of pixels
) / 112
"""Crops that ArcFace networks are trained on (InsightFace, `face_align.py`); the eyes are 0.31 of the side apart."""

TEMPLATES: dict[str, Points] = {"ours": OURS, "arcface112": ARCFACE112}


def scale_and_shift(
    source_52: NDArray[np.float64], target_52: NDArray[np.float64]
) -> tuple[float, float, float]:
    """The scale and shift that bring upright landmarks closest to others, in the sum of squares.

    Returns (scale, x, y): a point p of the source lies at scale · p + (x, y) in the target. Without a rotation, since
    templates are upright: what is left of one, 0.2 degrees for ARCFACE112, comes from landmarks that are not symmetric.
    """
    mean_s, mean_t = source_52.mean(axis=0), target_52.mean(axis=0)
    s, t = source_52 - mean_s, target_52 - mean_t
    scale = float((s * t).sum() / (s * s).sum())
    x, y = (mean_t - scale * mean_s).tolist()
    return scale, x, y
