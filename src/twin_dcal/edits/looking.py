"""Photographs of a person as edits need them: pixels, landmarks, and whether the face can be edited at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.decode import decode_pixels, read_bytes
from twin_dcal.errors import ImageError
from twin_dcal.prepare.detector import Face, FaceDetector
from twin_dcal.prepare.duplicates import compared_pixels, find_copies, perceptual_hash

from .face import Camera, fit_camera

Pixels = NDArray[np.uint8]

MOST_BITS, COPY_FROM = 12, 0.97
"""What makes two photographs one picture, as `dcal-prepare` decides."""


@dataclass(frozen=True)
class Limits:
    """What a face must be like to be edited."""

    max_yaw: float = 40.0
    """Degrees a head may be turned aside."""
    min_score: float = 0.8
    """Of the face detector."""
    max_misfit: float = 0.06
    """How far landmarks may lie from where a face has them, in eye distances."""


@dataclass(frozen=True)
class Found:
    """The face of a photograph: landmarks in pixels, x and y of each, in YuNet's order; the detector's score."""

    landmarks: tuple[tuple[float, float], ...]
    score: float

    @property
    def points(self) -> NDArray[np.float64]:
        """(5, 2)"""
        return np.array(self.landmarks, np.float64)


@dataclass(frozen=True, eq=False)
class Seen:
    """A photograph whose face can be edited."""

    path: Path
    pixels: Pixels
    found: Found
    camera: Camera


@dataclass(frozen=True)
class LeftOut:
    """A photograph whose face cannot be edited, and why."""

    path: Path
    reason: str


def new_detector() -> FaceDetector:
    """ConfigError where the extra `prepare` is not installed."""
    return FaceDetector()


def find(pixels: Pixels, detector: FaceDetector) -> Found | None:
    """The largest face near the middle of a picture, to a hundredth of a pixel; None where there is none."""
    faces = detector.detect(pixels)
    if not faces:
        return None
    face = _largest_near_the_middle(faces, pixels)
    points = tuple((round(float(x), 2), round(float(y), 2)) for x, y in face.landmarks)
    return Found(points, round(face.score, 3))


def camera_of(found: Found | None, limits: Limits) -> Camera | str:
    """How the face is seen, or why it cannot be edited."""
    if found is None:
        return "no face found"
    if found.score < limits.min_score:
        return "doubtful face"
    camera = fit_camera(found.points)
    if abs(camera.yaw) > limits.max_yaw:
        return "turned too far"
    if camera.misfit > limits.max_misfit:
        return "landmarks unlike a face's"
    return camera


def look(path: Path, detector: FaceDetector, limits: Limits) -> Seen | LeftOut:
    """The face of a photograph with its pixels, or why there is none to edit, such as a file that cannot be read."""
    try:
        pixels = decode_pixels(read_bytes(path), str(path))
    except ImageError:
        return LeftOut(path, "cannot be read")
    found = find(pixels, detector)
    camera = camera_of(found, limits)
    if found is None or isinstance(camera, str):
        return LeftOut(path, str(camera))
    return Seen(path, pixels, found, camera)


def _largest_near_the_middle(faces: Sequence[Face], pixels: Pixels) -> Face:
    middle = np.array(pixels.shape[1::-1]) / 2

    def weight(face: Face) -> float:
        x, y, width, height = face.box
        off = np.hypot(x + width / 2 - middle[0], y + height / 2 - middle[1]) / middle.max()
        return float(width * height * max(1 - off, 0.01))

    return max(faces, key=weight)


def groups_of_copies(crops: Sequence[Pixels]) -> list[list[int]]:
    """Groups of aligned crops that are one picture, by number."""
    hashes = [perceptual_hash(crop) for crop in crops]
    mirrored = [perceptual_hash(crop[:, ::-1]) for crop in crops]
    return find_copies(hashes, mirrored, lambda number: compared_pixels(crops[number]), MOST_BITS, COPY_FROM)
