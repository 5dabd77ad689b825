"""Photographs to aligned crops: one face found, its landmarks refined, and the picture warped so that they meet the
template.

Landmarks are refined in the crop they lead to: the face is looked at again at a small fixed size, as it is and
mirrored, until what is seen no longer moves it. An aligned crop is such a fixed point, so aligning it again leaves it
where it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.fit import central, fit, sides
from twin_dcal.errors import ImageError
from twin_dcal.image_size import ImageSize
from twin_dcal.plural import plural

from .detector import Face, FaceDetector
from .geometry import (
    TEMPLATE,
    Matrix,
    Points,
    compose,
    displacement,
    fit_similarity,
    invert,
    scale_of,
    transform,
)
from .quality import Quality, measure
from .settings import Limits

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
FaceChoice = int | Literal["largest"]
"""Which face of a picture with several: the largest central one, or one by its number from the left, 1 the first."""

STABLE = 0.02
"""A square picture whose alignment would move it by less, as a share of its side, is an aligned crop already."""
_LONG_SIDES = (480, 1280)  # sizes a photo is searched at, until a face is found
_MIN_SIDE = 8
_LOOK = 96  # pixels of a second look: the smallest at which YuNet is as exact as at any
_MAX_LOOKS = 6
_SETTLED = 0.004  # share of the crop's side
_WORK, _MARGIN = 288, 1.5  # pixels and share of the crop's side that looks are cut from
_CENTRING = 2.0
_DOUBT = 0.1


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """A crop, and what was seen in the photo.

    crop: (rows, columns, 3) uint8. matrix: from the photo to a crop of side 1, which a crop that is not square is the
    central part of. box (x, y, width, height) and landmarks (5, 2):
    in the photo's pixels. boxes: of every face of the photo, from left to right, this one's the `number`-th. moved:
    False for a picture that was an aligned crop already and was at most resized. warnings: one line each.
    """

    crop: Pixels
    matrix: Matrix
    box: Box
    landmarks: Points
    quality: Quality
    boxes: tuple[Box, ...]
    number: int
    moved: bool
    warnings: tuple[str, ...]

    @property
    def num_faces(self) -> int:
        return len(self.boxes)


def align_face(
    pixels_HWC: Pixels,
    size: ImageSize,
    detector: FaceDetector,
    *,
    tolerance: float = STABLE,
    limits: Limits | None = None,
    template: Points = TEMPLATE,
    which: FaceChoice = "largest",
    shared: bool = False,
) -> AlignedFace | None:
    """The crop of one face, (rows, columns, 3); None if no face is found.

    Args: pixels: uint8 RGB, upright. size: pixels a side, or rows and columns. tolerance: a picture that aligning would
    move by less, as a share of its side, is an aligned crop and is left alone; 0 aligns everything. limits: what a
    warning is about; by default `Limits()`. template: landmarks of the crop, of side 1. which, shared: see `choose`.
    ImageError for a number that is larger than their number.
    """
    faces = find_faces(pixels_HWC, detector)
    if not faces:
        return None
    chosen = choose(faces, pixels_HWC.shape, which, shared)
    return _aligned(
        pixels_HWC, size, detector, chosen, faces, _Framing(tolerance, limits or Limits(), template, which)
    )


def align_faces(
    pixels_HWC: Pixels, size: ImageSize, detector: FaceDetector, *,
    tolerance: float = STABLE, limits: Limits | None = None, most: int | None = None, template: Points = TEMPLATE,
) -> tuple[AlignedFace, ...]:  # fmt: skip
    """Crops of a photo's faces, the largest central one first. Arguments as in `align_face`; most: how many at most."""
    faces = by_prominence(find_faces(pixels_HWC, detector), pixels_HWC.shape)
    framing = _Framing(tolerance, limits or Limits(), template)
    return tuple(_aligned(pixels_HWC, size, detector, face, faces, framing) for face in faces[:most])


@dataclass(frozen=True, eq=False)
class _Framing:
    """How a face is placed in its crop (see `align_face`), what is complained of, and which face was asked for."""

    tolerance: float
    limits: Limits
    template: Points
    which: FaceChoice = "largest"


def choose(faces: tuple[Face, ...], shape: tuple[int, ...], which: FaceChoice, shared: bool = False) -> Face:
    """The face that is meant. ImageError for a number that is larger than theirs.

    Args: shared: the choice is for another picture too, and one with a single face has only that to give.
    """
    if which == "largest" or (shared and len(faces) == 1):
        return by_prominence(faces, shape)[0]
    if which > len(faces):
        there = plural(len(faces), "face, so there is no", "faces, none of them")
        raise ImageError(f"{there} number {which} from the left")
    return _from_left(faces)[which - 1]


def _from_left(faces: tuple[Face, ...]) -> list[Face]:
    return sorted(faces, key=lambda face: (face.box[0] + face.box[2] / 2, face.box[1]))


def _aligned(
    pixels_HWC: Pixels,
    size: ImageSize,
    detector: FaceDetector,
    face: Face,
    faces: tuple[Face, ...],
    framing: _Framing,
) -> AlignedFace:
    found, matrix, moved = place(pixels_HWC, face, detector, framing.tolerance, framing.template, size)
    crop = view_of(pixels_HWC, matrix, size, moved=moved)
    longer = max(sides(size))
    square = crop if crop.shape[0] == crop.shape[1] else warp(pixels_HWC, matrix * longer, longer)
    quality = measure(square, found, matrix, pixels_HWC.shape)
    warnings = framing.limits.complaints(quality)
    in_order = _from_left(faces)
    number = next(at for at, other in enumerate(in_order, start=1) if other is face)
    if len(faces) > 1:
        largest = by_prominence(faces, pixels_HWC.shape)[0] is face
        used = f"{'the largest central one' if largest else 'one'} is used, number {number} from the left"
        if framing.which != "largest":
            used = f"number {number} from the left is used, as chosen"
        warnings = (f"{len(faces)} faces; {used}", *warnings)
    boxes = tuple(other.box for other in in_order)
    return AlignedFace(crop, matrix, found.box, found.landmarks, quality, boxes, number, moved, warnings)


def view_of(pixels_HWC: Pixels, matrix: Matrix, size: ImageSize, *, moved: bool) -> Pixels:
    """The square of a photo that `matrix` leads to, of any size, or its central part of rows and columns; the central
    part of a photo that was not moved."""
    if not moved:
        return fit(pixels_HWC, size)
    longer = max(sides(size))
    square = warp(pixels_HWC, matrix * longer, longer)
    return np.ascontiguousarray(square[central(square.shape, size)])


def find_faces(pixels_HWC: Pixels, detector: FaceDetector) -> tuple[Face, ...]:
    """Every face of a photo, in its pixels.

    The photo is searched at a long side of 480 px, then at 1280 if no face is found, then with a border of a quarter of
    its size, since a face that fills the picture to its edges is easily missed.
    """
    for view, matrix in _views(pixels_HWC):
        back = invert(matrix)
        faces = detector.detect(view)
        if faces:
            return tuple(_in_photo(face, back) for face in faces)
    return ()


def by_prominence(faces: tuple[Face, ...], shape: tuple[int, ...]) -> tuple[Face, ...]:
    """Largest and most central first: area less twice the squared distance from the centre, as InsightFace ranks.

    Faces that the detector doubts, beside one it is sure of, come last whatever their size.
    """
    centre = np.array([shape[1], shape[0]]) / 2
    surest = max((face.score for face in faces), default=0.0)

    def prominence(face: Face) -> tuple[bool, float]:
        x, y, width, height = face.box
        away = np.array([x + width / 2, y + height / 2]) - centre
        return face.score >= surest - _DOUBT, float(width * height - _CENTRING * (away @ away))

    return tuple(sorted(faces, key=prominence, reverse=True))


def place(
    pixels_HWC: Pixels, face: Face, detector: FaceDetector, tolerance: float, template: Points = TEMPLATE,
    size: ImageSize = 1,
) -> tuple[Face, Matrix, bool]:  # fmt: skip
    """The face with refined landmarks, the similarity from the photo to a crop of side 1, and whether that differs from
    the whole picture by at least `tolerance`.

    Args: size: of the crop, for its shape: what may be a crop already is a square picture, or one of that shape.
    """
    if tolerance > 0 and _may_be_crop(pixels_HWC.shape, size):
        whole = _whole(pixels_HWC.shape, size)
        seen = _look(pixels_HWC, whole, detector)
        if seen is not None and displacement(seen, template) < tolerance:
            landmarks = transform(invert(whole), seen)
            if _is_inside(landmarks.mean(axis=0), face.box):  # else it is a crop of another of its faces
                return Face(face.box, landmarks, face.score), whole, False
    landmarks = refine(pixels_HWC, face.landmarks, detector)
    return Face(face.box, landmarks, face.score), fit_similarity(landmarks, template), True


def _may_be_crop(shape: tuple[int, ...], size: ImageSize) -> bool:
    height, width = shape[:2]
    rows, columns = central(shape, size)
    is_square = min(height, width) >= 0.99 * max(height, width)
    return is_square or (
        rows.stop - rows.start >= 0.99 * height and columns.stop - columns.start >= 0.99 * width
    )


def _whole(shape: tuple[int, ...], size: ImageSize) -> Matrix:
    """From a picture to the square of side 1 around its central part."""
    rows, columns = central(shape, size)
    kept = np.array([columns.stop - columns.start, rows.stop - rows.start], float)
    longer = kept.max()
    corner = np.array([columns.start, rows.start]) - (longer - kept) / 2
    return np.asarray(np.column_stack([np.eye(2), -corner]) / longer)


def _is_inside(point: Points, box: Box) -> bool:
    x, y, width, height = box
    return bool(x <= point[0] <= x + width and y <= point[1] <= y + height)


def refine(pixels_HWC: Pixels, landmarks_52: Points, detector: FaceDetector) -> Points:
    """Landmarks in the photo's pixels, after looks at the crop that they lead to."""
    base = fit_similarity(landmarks_52, TEMPLATE)
    edge = (_MARGIN - 1) / 2
    base = np.column_stack([base[:, :2], base[:, 2] + edge]) * (_WORK / _MARGIN)
    work = warp(pixels_HWC, base, _WORK, smooth=False)
    landmarks = transform(base, landmarks_52)
    for _ in range(_MAX_LOOKS):
        matrix = fit_similarity(landmarks, TEMPLATE)
        seen = _look(work, matrix, detector)
        if seen is None:
            break
        step = np.abs(seen - transform(matrix, landmarks)).max()
        landmarks = transform(invert(matrix), seen)
        if step < _SETTLED:
            break
    return transform(invert(base), landmarks)


def warp(pixels_HWC: Pixels, matrix: Matrix, size: int, *, smooth: bool = True) -> Pixels:
    """The picture through a similarity, (size, size, 3); black where it ends.

    What is made smaller is first resized by averaging areas, so that nothing aliases; the rest is a bicubic warp at
    scale 1, or a bilinear one where it need not be `smooth`.
    """
    cv2 = import_module("cv2")
    part, offset = _part(pixels_HWC, matrix, size)
    if not part.size:
        return np.zeros((size, size, 3), np.uint8)
    matrix = compose(matrix, np.column_stack([np.eye(2), offset]))
    scale = scale_of(matrix)
    if scale < 1:
        height, width = part.shape[:2]
        small = max(round(width * scale), 1), max(round(height * scale), 1)
        part = cv2.resize(part, small, interpolation=cv2.INTER_AREA)
        grow = np.array([[width / small[0], 0, 0], [0, height / small[1], 0]])
        matrix = compose(matrix, grow)
    shift = matrix[:, :2] @ [0.5, 0.5] + matrix[:, 2] - 0.5  # OpenCV counts from the centres of pixels
    matrix = np.column_stack([matrix[:, :2], shift])
    method = cv2.INTER_CUBIC if smooth else cv2.INTER_LINEAR
    return np.asarray(cv2.warpAffine(part, matrix, (size, size), flags=method), np.uint8)


def _part(pixels_HWC: Pixels, matrix: Matrix, size: int) -> tuple[Pixels, Points]:
    """The part of the picture that a warp reads, and where it begins (x, y)."""
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], float)
    needed = transform(invert(matrix), corners)
    pad = 3 * max(1 / scale_of(matrix), 1)  # what a bicubic filter reaches
    height, width = pixels_HWC.shape[:2]
    low = np.clip(np.floor(needed.min(axis=0) - pad), 0, [width, height]).astype(int)
    high = np.clip(np.ceil(needed.max(axis=0) + pad), 0, [width, height]).astype(int)
    return np.ascontiguousarray(pixels_HWC[low[1] : high[1], low[0] : high[0]]), low.astype(float)


def _look(pixels_HWC: Pixels, matrix: Matrix, detector: FaceDetector) -> Points | None:
    """Landmarks (5, 2) in a crop of side 1 that `matrix` leads to: the mean of those seen as it is and mirrored."""
    crop = warp(pixels_HWC, matrix * _LOOK, _LOOK, smooth=False)
    seen = []
    for mirrored in (False, True):
        faces = detector.detect(crop[:, ::-1] if mirrored else crop)
        if not faces:
            continue
        face = min(faces, key=lambda face: np.abs(face.landmarks / _LOOK - TEMPLATE).sum())
        points = face.landmarks / _LOOK
        if mirrored:
            points = np.column_stack([1 - points[:, 0], points[:, 1]])[[1, 0, 2, 4, 3]]
        seen.append(points)
    return np.mean(seen, axis=0) if seen else None


def _views(pixels_HWC: Pixels) -> Iterator[tuple[Pixels, Matrix]]:
    """The picture at sizes to search, and the matrix from the photo to each."""
    height, width = pixels_HWC.shape[:2]
    if min(height, width) < _MIN_SIDE:
        return
    sizes = [side for side in _LONG_SIDES if side < max(height, width)]
    for side in sizes or [max(height, width, 224)]:
        yield _scaled(pixels_HWC, side)
    small, matrix = _scaled(pixels_HWC, min(max(height, width), _LONG_SIDES[0]) * 2 // 3)
    border = max(small.shape) // 4
    view = np.pad(small, ((border, border), (border, border), (0, 0)), mode="edge")
    yield view, np.column_stack([matrix[:, :2], matrix[:, 2] + border])


def _scaled(pixels_HWC: Pixels, long_side: int) -> tuple[Pixels, Matrix]:
    cv2 = import_module("cv2")
    height, width = pixels_HWC.shape[:2]
    scale = long_side / max(height, width)
    if scale == 1:
        return pixels_HWC, np.eye(2, 3)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    view = cv2.resize(pixels_HWC, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return view, np.array([[size[0] / width, 0, 0], [0, size[1] / height, 0]])


def _in_photo(face: Face, back: Matrix) -> Face:
    x, y, width, height = face.box
    (left, top), (right, bottom) = transform(back, np.array([[x, y], [x + width, y + height]])).tolist()
    return Face((left, top, right - left, bottom - top), transform(back, face.landmarks), face.score)
