"""Photographs to the crops a model was trained on, with the code that prepares data sets. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.fit import fit
from twin_dcal.errors import ConfigError, ImageError
from twin_dcal.prepare.align import AlignedFace, align_face
from twin_dcal.prepare.detector import NEEDED, FaceDetector, is_available
from twin_dcal.prepare.geometry import TEMPLATE

from .images import read_pixels

Align = Literal["auto", "always", "never"]

CROP_TOLERANCE = 0.12
"""A square picture that aligning would move by less, as a share of its side, counts as a crop and is left alone. Larger
than `prepare.align.STABLE`, since crops are framed by other programs too (docs/prepare.md)."""
_MOST_OUTSIDE = 0.25
_OBLONG = 1.25


@dataclass(frozen=True)
class Seen:
    """face: what was found in a picture, as plain values (aligned, num_faces, box x y width height and landmarks in its
    pixels, quality); None if nobody looked or nothing was found."""

    face: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture as the network sees it, (S, S, 3) uint8, and what was seen in it."""

    pixels: NDArray[np.uint8]
    seen: Seen = Seen()


class Aligner:
    """Prepares pictures in one of three ways.

    "auto": a face is looked for; aligned crops, and pictures that a face fills to the edges, are left alone; a picture
    without a face is used as it is. Without the extra `prepare` nothing is looked for. "always": every picture is
    aligned; ImageError if it has no face. "never": the central square.
    Args: align: the way. landmarks: (5, 2) where faces lie in the model's crops, of side 1; None where `dcal-prepare`
    places them. ConfigError for another, and for "always" without the extra. Safe to use from several threads.
    """

    def __init__(self, align: Align, landmarks: Sequence[Sequence[float]] | None = None) -> None:
        if align not in get_args(Align):
            raise ConfigError(f"align {align!r}: give one of {', '.join(get_args(Align))}")
        self.align: Align = align
        self._template = TEMPLATE if landmarks is None else np.array(landmarks, float)
        self._lock = Lock()
        self._detector: FaceDetector | None = FaceDetector() if align == "always" else None

    def __call__(self, pixels_HWC: NDArray[np.uint8], size: int, name: str) -> Prepared:
        if self.align == "never":
            return Prepared(fit(pixels_HWC, size))
        if self.align == "auto" and not is_available():
            return Prepared(fit(pixels_HWC, size), Seen(None, _unlooked(pixels_HWC)))
        tolerance = CROP_TOLERANCE if self.align == "auto" else 0
        found = align_face(pixels_HWC, size, self._made(), tolerance=tolerance, template=self._template)
        if found is None and self.align == "always":
            raise ImageError(f'{name}: no face found. Give another picture, or a crop with align="never".')
        if found is None:
            return Prepared(
                fit(pixels_HWC, size), Seen(None, ("no face found; the picture is used as it is",))
            )
        warnings = found.warnings
        fills = found.moved and found.quality.outside > _MOST_OUTSIDE
        if fills and self.align == "auto":
            warnings = ("the face fills the picture; it is used as it is", *warnings)
        left_alone = self.align == "auto" and (fills or not found.moved)
        crop = fit(pixels_HWC, size) if left_alone else found.crop
        return Prepared(crop, Seen(_told(found, not left_alone), warnings))

    def _made(self) -> FaceDetector:
        with self._lock:
            if self._detector is None:
                self._detector = FaceDetector()
            return self._detector


def prepare_file(
    align: Align, image_size: int, landmarks: tuple[tuple[float, float], ...] | None, path: str
) -> NDArray[np.uint8]:  # fmt: skip
    """A file as an engine with this `align` prepares it, (S, S, 3) uint8; for worker processes without an engine."""
    return _aligner(align, landmarks)(read_pixels(path), image_size, path).pixels


@cache
def _aligner(align: Align, landmarks: tuple[tuple[float, float], ...] | None) -> Aligner:
    """One for a process: a detector takes longer to load than to use."""
    return Aligner(align, landmarks)


def _unlooked(pixels_HWC: NDArray[np.uint8]) -> tuple[str, ...]:
    """A warning for a picture that is no crop by its shape."""
    height, width = pixels_HWC.shape[:2]
    if max(height, width) < _OBLONG * min(height, width):
        return ()
    return (f"not square, perhaps a whole photograph; faces are found and aligned only after {NEEDED}",)


def _told(found: AlignedFace, aligned: bool) -> dict[str, Any]:
    return {
        "aligned": aligned, "num_faces": found.num_faces, "box": [round(float(value), 2) for value in found.box],
        "landmarks": found.landmarks.round(2).tolist(), "quality": found.quality.rounded(),
    }  # fmt: skip
