"""Nothing but the edits tells edited twins apart: classifiers of all the rest stay at chance, on real photographs.

Needs ../shared/data/lookalikes; the classifiers' own power is shown by planted leaks.
"""

import io
from dataclasses import dataclass

import numpy as np
import pytest
from drawn_scenes import SHARED
from PIL import Image
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from twin_dcal.edits.calibrate import FaceNetwork, twin_eer
from twin_dcal.edits.dataset import Settings, dealt, detector, read_people
from twin_dcal.edits.looking import Limits, Seen, look
from twin_dcal.edits.recipes import RECIPES, edited

pytestmark = pytest.mark.slow

LOOKALIKES = SHARED / "lookalikes"
NETWORK = SHARED.parent / "weights" / "mobilefacenet_ms1m.onnx"
NUM_PEOPLE, NUM_PHOTOS, SIDE, GREY = 120, 20, 64, 128


@dataclass
class Family:
    """Of each photograph of a person: pixels (SIDE, SIDE, 3) as read from the file, the size of that file, whose it
    is, and where the face is not."""

    pixels: np.ndarray
    sizes: np.ndarray
    half: np.ndarray
    outside: np.ndarray


@pytest.fixture(scope="module")
def shared_people():
    if not LOOKALIKES.is_dir():
        pytest.skip("needs ../shared/data/lookalikes")
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    people = [person for person in read_people(LOOKALIKES, 0) if person.split == "train"]
    seen = []
    for person in people:
        looks = [look(path, detector(), Limits()) for path in person.paths[:NUM_PHOTOS]]
        photos = [each for each in looks if isinstance(each, Seen)]
        if len(photos) >= 16:
            seen.append((person.name, photos))
        if len(seen) == NUM_PEOPLE:
            break
    return seen


def jpeg(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def families(people, recipe, strength=1.0, plant=None):
    """Args: plant: changes what is written of the second self: (pixels, original, quality) to (pixels, quality)."""
    settings = Settings(strength=strength, recipe=recipe)
    made = []
    for name, photos in people:
        rows = []
        for half, hand in enumerate(dealt(photos, settings, name)):
            edit = settings.edit(name, half)
            for shot in hand:
                pixels, quality = edited(recipe, shot.pixels, shot.camera, edit), settings.jpeg_quality
                if plant and half:
                    pixels, quality = plant(pixels, shot.pixels, quality)
                data = jpeg(pixels, quality)
                small = Image.open(io.BytesIO(data)).resize((SIDE, SIDE), Image.Resampling.BOX)
                rows.append((np.asarray(small), len(data), half, outside(shot.camera)))
        made.append(Family(*(np.array(column) for column in zip(*rows, strict=True))))
    return made


def outside(camera):
    """Where no edit reaches by more than a fraction of a pixel: the corners and the rim."""
    rows, columns = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) * (224 / SIDE)
    u, v = np.moveaxis(camera.locate(np.stack([columns, rows], axis=-1)), -1, 0)
    return (u / 1.5) ** 2 + ((v - 0.5) / 1.75) ** 2 > 1


def features(family, what):
    values = family.pixels.astype(np.float32) / 255
    if what == "file size":
        return np.log(family.sizes)[:, None].astype(float)
    if what in ("background", "background noise"):
        values = np.where(family.outside[..., None], values, np.float32(GREY / 255))
    elif what == "border":
        inner = np.zeros((SIDE, SIDE, 1), bool)
        inner[2:-2, 2:-2] = True
        values = np.where(inner, np.float32(GREY / 255), values)
    if what.endswith("noise"):
        around = [np.roll(values, step, axis) for step in (-1, 1) for axis in (1, 2)]
        rough = (values - sum(around) / 4) ** 2
        values = np.log(1e-4 + rough.reshape(len(values), 8, 8, 8, 8, 3).mean((2, 4)))
        return values.reshape(len(values), -1)
    return values.reshape(len(values), SIDE // 4, 4, SIDE // 4, 4, 3).mean((2, 4)).reshape(len(values), -1)


def aucs(made, what):
    """(families,) AUC of telling the two selves apart in photographs that were not learnt from."""
    found = []
    for family in made:
        x, half = features(family, what), family.half
        order = np.random.default_rng(0).permutation(len(half))
        order = order[np.argsort(half[order], kind="stable")]  # both selves in both parts
        parts = order[::2], order[1::2]
        both = []
        for trained, tried in (parts, parts[::-1]):
            spread = (x[trained].std(0) + 1e-3) * np.sqrt(x.shape[1])
            scaled = (x - x[trained].mean(0)) / spread
            model = LogisticRegression(C=10, max_iter=300).fit(scaled[trained], half[trained])
            both.append(roc_auc_score(half[tried], model.decision_function(scaled[tried])))
        found.append(np.mean(both))
    return np.array(found)


def interval(values):
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean(), half


@pytest.fixture(scope="module", params=sorted(RECIPES))
def made(request, shared_people):
    return families(shared_people, request.param)


@pytest.mark.parametrize("what", ["background", "border", "noise", "background noise", "file size"])
def test_a_classifier_learns_nothing_from(what, made):
    mean, half = interval(aucs(made, what))
    print(f"{what}: {mean:.3f} ± {half:.3f}")
    assert half < 0.06
    assert abs(mean - 0.5) < 1.5 * half


def resaved(pixels, original, quality):
    return pixels, 88


def warmer(pixels, original, quality):
    return np.minimum(pixels.astype(int) + np.array([24, 0, 0]), 255).astype(np.uint8), quality


@pytest.mark.parametrize(
    ("what", "leak"), [("file size", resaved), ("border", warmer), ("background", warmer)]
)
def test_the_same_classifier_notices_if_one_self_is(what, leak, shared_people):
    mean, half = interval(aucs(families(shared_people[:40], "bumps", plant=leak), what))
    assert mean - half > 0.5


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_with_all_edits_at_zero_a_face_network_cannot_tell_twins(recipe, shared_people):
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    if not NETWORK.is_file():
        pytest.skip("needs ../shared/weights")
    sample = [(name, dealt(photos, Settings(), name)) for name, photos in shared_people]
    network = FaceNetwork(NETWORK)
    assert twin_eer(network, sample, Settings(recipe=recipe), 0.0) == pytest.approx(0.5, abs=0.015)
    assert twin_eer(network, sample, Settings(recipe=recipe), 1.0) < 0.4
