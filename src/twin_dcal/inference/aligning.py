"""Photographs to the crops a model was trained on, with the code that prepares data sets. No torch here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from threading import Lock
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.fit import central, fit, scaled, sides
from twin_dcal.errors import ConfigError, ImageError
from twin_dcal.image_size import ImageSize
from twin_dcal.model_file.familiarity import Familiarity
from twin_dcal.prepare.align import AlignedFace, FaceChoice, align_face, view_of
from twin_dcal.prepare.detector import NEEDED, FaceDetector, is_available
from twin_dcal.prepare.geometry import TEMPLATE, Matrix, scale_of

from .given import check_one_of
from .images import read_pixels

Align = Literal["auto", "always", "never"]
Faces = FaceChoice | tuple[FaceChoice, FaceChoice]
"""One choice for both pictures of a pair, or one for each."""
Surface = Literal["python", "command", "prompt", "page"]
"""Where a message is read: each names the options that are there, under their own names."""
_NEVER: Mapping[Surface, str] = {
    "python": 'align="never"', "command": "--align never", "prompt": "align never", "page": "",
}  # fmt: skip

CROP_TOLERANCE = 0.12
"""A square picture that aligning would move by less, as a share of its side, counts as a crop and is left alone. Larger
than `prepare.align.STABLE`, since crops are framed by other programs too (docs/prepare.md)."""
SHOWN = 512
_MOST_OUTSIDE = 0.25
_OBLONG = 1.25


@dataclass(frozen=True)
class FaceInfo:
    """face: what was found in a picture, as plain values (see `VerificationResult.faces`); None if nobody looked.
    familiarity: how far it is from the model's training pictures (see `VerificationResult.familiarity`)."""

    face: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    familiarity: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture as the network sees it, (rows, columns, 3) uint8, and what was seen in it.

    photo: the picture it is from, (H, W, 3), and matrix: from there to a crop of side 1; None for the central part.
    """

    pixels: NDArray[np.uint8]
    seen: FaceInfo = FaceInfo()
    photo: NDArray[np.uint8] | None = None
    matrix: Matrix | None = None

    def judged_by(self, known: Familiarity | None) -> Self:
        """The same with how far it is from the training pictures, and a warning where it is beyond their limit."""
        if known is None:
            return self
        judged = known.judged(self.pixels)
        told = (known.told(),) if judged["beyond"] else ()
        seen = replace(self.seen, warnings=(*told, *self.seen.warnings), familiarity=judged)
        return replace(self, seen=seen)

    def shown(self, most: int = SHOWN) -> NDArray[np.uint8]:
        """The same part in the photo's own resolution, for people to look at: up to `most` pixels a side."""
        if self.photo is None:
            return self.pixels
        shape = self.pixels.shape[0], self.pixels.shape[1]
        if self.matrix is None:
            own = max(self.photo[central(self.photo.shape, shape)].shape[:2])
        else:
            own = round(1 / scale_of(self.matrix))
        side = min(own, most)
        if side <= max(shape):
            return self.pixels
        size = scaled(shape, side)
        return (
            fit(self.photo, size)
            if self.matrix is None
            else view_of(self.photo, self.matrix, size, moved=True)
        )


class Aligner:
    """Prepares pictures in one of three ways.

    "auto": a face is looked for; aligned crops, and pictures that a face fills to the edges, are left alone. Without
    the extra `prepare` nothing is looked for. "always": every picture is aligned. Either refuses a picture without a
    face (ImageError). "never": the central part of every picture.
    Args: align: the way. landmarks: (5, 2) where faces lie in the model's crops, of side 1; None where `dcal-prepare`
    places them; a crop that is not square is the central part of such a one. surface: where its messages are read.
    ConfigError for another, and for "always"
    without the extra. Safe to use from several threads.
    """

    def __init__(
        self, align: Align, landmarks: Sequence[Sequence[float]] | None = None, surface: Surface = "python"
    ) -> None:
        check_one_of(align, Align, "align")
        self.align: Align = align
        self.surface: Surface = surface
        self._template = TEMPLATE if landmarks is None else np.array(landmarks, float)
        self._lock = Lock()
        self._detector: FaceDetector | None = FaceDetector() if align == "always" else None

    def __call__(
        self, pixels_HWC: NDArray[np.uint8], size: ImageSize, name: str, which: FaceChoice = "largest",
        surface: Surface | None = None, shared: bool = False,
    ) -> Prepared:  # fmt: skip
        """Args: which: of several faces; shared: that choice is for another picture too (`refuse_unmet` then); surface:
        where a message is read, if elsewhere than others. ConfigError for a choice where nothing is looked for."""
        surface = self.surface if surface is None else surface
        check_one_of(surface, Surface, "surface")
        never = _NEVER[surface]
        check_choice(which)
        looked_for = self.align == "always" or (self.align == "auto" and is_available())
        if which != "largest" and not looked_for:
            why = f"without {NEEDED}"
            if self.align == "never":
                why = f"with {never}" if never else "here"
            raise ConfigError(f"face {which}: no face is looked for {why}")
        if not looked_for:
            warnings = _unlooked(pixels_HWC, size) if self.align == "auto" else ()
            return Prepared(fit(pixels_HWC, size), FaceInfo(None, warnings), pixels_HWC)
        return self._looked(pixels_HWC, size, name, which, never, shared)

    def _looked(
        self, pixels_HWC: NDArray[np.uint8], size: ImageSize, name: str, which: FaceChoice, never: str, shared: bool
    ) -> Prepared:  # fmt: skip
        tolerance = CROP_TOLERANCE if self.align == "auto" else 0
        try:
            found = align_face(
                pixels_HWC, size, self._made(), tolerance=tolerance, template=self._template, which=which,
                shared=shared,
            )  # fmt: skip
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from None
        if found is None:
            instead = f"another picture, or for a crop {never}" if never else "another picture"
            raise ImageError(f"{name}: no face found, so it is not compared. Give {instead}.")
        warnings = found.warnings
        fills = found.moved and found.quality.outside > _MOST_OUTSIDE and which == "largest"
        if fills and self.align == "auto":
            warnings = ("the face fills the picture; it is used as it is", *warnings)
        left_alone = self.align == "auto" and (fills or not found.moved)
        crop = fit(pixels_HWC, size) if left_alone else found.crop
        seen = FaceInfo(_told(found, not left_alone, pixels_HWC.shape), warnings)
        return Prepared(crop, seen, pixels_HWC, None if left_alone or not found.moved else found.matrix)

    def _made(self) -> FaceDetector:
        with self._lock:
            if self._detector is None:
                self._detector = FaceDetector()
            return self._detector


def check_choice(which: FaceChoice) -> None:
    """ConfigError for what names no face."""
    is_number = isinstance(which, int) and not isinstance(which, bool) and which >= 1
    if not is_number and not (isinstance(which, str) and which == "largest"):
        raise ConfigError(f"face {which!r:.60}: give largest, or a number from the left, 1 the first")


def of_both(faces: Faces) -> tuple[FaceChoice, FaceChoice]:
    """The choice for each of two pictures. ConfigError for what is neither one choice nor two."""
    if isinstance(faces, tuple | list):
        if len(faces) != 2:
            raise ConfigError(
                f"faces {faces!r:.60}: give one choice for both pictures, or one for each of the two"
            )
        first, second = faces
    else:
        first = second = faces
    for choice in (first, second):
        check_choice(choice)
    return first, second


def is_shared(faces: Faces) -> bool:
    """Whether one choice is for both pictures."""
    return not isinstance(faces, tuple | list)


def unmet(faces: Faces, seen: Iterable[FaceInfo]) -> str | None:
    """Why one choice for two pictures fits neither of them, None if it fits one: a picture with a single face may be
    compared with the second face of another, but two such pictures have no second face."""
    if not isinstance(faces, int) or any(one.face is None or one.face["num_faces"] >= faces for one in seen):
        return None
    return f"face {faces}: neither picture has it; each shows one face"


def prepare_file(
    align: Align, image_size: ImageSize, landmarks: tuple[tuple[float, float], ...] | None, surface: Surface, path: str
) -> NDArray[np.uint8]:  # fmt: skip
    """A file as an engine with this `align` prepares it, (H, W, 3) uint8; for worker processes without an engine."""
    return _aligner(align, landmarks, surface)(read_pixels(path), image_size, path).pixels


@cache
def _aligner(align: Align, landmarks: tuple[tuple[float, float], ...] | None, surface: Surface) -> Aligner:
    """One for a process: a detector takes longer to load than to use."""
    return Aligner(align, landmarks, surface)


def _unlooked(pixels_HWC: NDArray[np.uint8], size: ImageSize) -> tuple[str, ...]:
    """What is not known of a picture that nobody looked at."""
    height, width = pixels_HWC.shape[:2]
    rows, columns = sides(size)
    if any(
        max(tall, wide) < _OBLONG * min(tall, wide)
        for tall, wide in ((height, width), (height * columns, width * rows))
    ):
        return (f"whether it shows a face was not looked at; that needs {NEEDED}",)
    return (f"not square, perhaps a whole photograph; faces are found and aligned only after {NEEDED}",)


def _told(found: AlignedFace, aligned: bool, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "aligned": aligned, "num_faces": found.num_faces, "number": found.number, "box": _rounded(found.box),
        "landmarks": found.landmarks.round(2).tolist(), "quality": found.quality.rounded(),
        "boxes": [_rounded(box) for box in found.boxes], "picture": [shape[1], shape[0]],
    }  # fmt: skip


def _rounded(box: tuple[float, ...]) -> list[float]:
    return [round(float(value), 2) for value in box]
