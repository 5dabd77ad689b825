"""Photographs of a person as edits need them: pixels, landmarks, and whether the face can be edited at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.decode import decode_pixels, read_bytes
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


@dataclass(frozen=True, eq=False)
class Seen:
    """A photograph whose face can be edited."""

    path: Path
    pixels: Pixels
    landmarks: NDArray[np.float64]
    score: float
    camera: Camera


@dataclass(frozen=True)
class LeftOut:
    """A photograph whose face cannot be edited, and why."""

    path: Path
    reason: str


def look(path: Path, detector: FaceDetector, limits: Limits) -> Seen | LeftOut:
    """ImageError for a file that cannot be read."""
    pixels = decode_pixels(read_bytes(path), str(path))
    faces = detector.detect(pixels)
    if not faces:
        return LeftOut(path, "no face found")
    face = _largest_near_the_middle(faces, pixels)
    if face.score < limits.min_score:
        return LeftOut(path, "doubtful face")
    camera = fit_camera(face.landmarks)
    if abs(camera.yaw) > limits.max_yaw:
        return LeftOut(path, "turned too far")
    if camera.misfit > limits.max_misfit:
        return LeftOut(path, "landmarks unlike a face's")
    return Seen(path, pixels, face.landmarks, face.score, camera)


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
