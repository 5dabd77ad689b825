"""Nothing but the face tells twins apart: classifiers that see all the rest, from JPEG files, stay at chance."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import nn

from twin_dcal.synth import hair
from twin_dcal.synth.identity import DIFFICULTIES, draw_family
from twin_dcal.synth.known import know
from twin_dcal.synth.masks import face_mask
from twin_dcal.synth.photo import draw_photo
from twin_dcal.synth.scene import look

pytestmark = pytest.mark.slow
LEVEL = DIFFICULTIES["easy"]
MARGIN = 4  # pixels around the face that blur and JPEG carry it to
GREY = 128


def draw(num_families, num_photos, size, seed):
    """(families, 2, photos, S, S, 3) pixels as read from JPEG files; (…, S, S) where face is, and where hair is."""
    shape = (num_families, 2, num_photos, size, size)
    pixels, face, front = np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool), np.zeros(shape, bool)
    for family in range(num_families):
        for twin, known in enumerate(know(draw_family(seed, family, 2, LEVEL), 2 * size)):
            for number in range(num_photos):
                photo = draw_photo(seed, family, twin, number, LEVEL)
                at = family, twin, number
                pixels[at] = through_jpeg(known.take(photo, size)[0], photo.quality)
                face[at] = widened(face_mask(known.person, known.maps, known.frame, photo, size) > 0)
                scene, _ = look(known.person, known.maps, known.frame, photo, size)
                front[at] = hair.front_cover(known.person, photo, scene) > 0.5
    return pixels, face, front


def through_jpeg(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
    return np.asarray(Image.open(file))


def widened(mask):
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.filter(ImageFilter.MaxFilter(2 * MARGIN + 1))) > 0


def only(pixels, where):
    return np.where(where[..., None], pixels, np.uint8(GREY))


def interval(aucs):
    """Mean over families, and half its 95 % t-interval."""
    half = stats.t.ppf(0.975, len(aucs) - 1) * aucs.std(ddof=1) / np.sqrt(len(aucs))
    return aucs.mean(), half


def features(images):
    """Colours at half the resolution, and how rough each of 8 × 8 tiles is (noise, sharpness, compression)."""
    count, size = images.shape[:2]
    values = images.astype(np.float32) / 255
    colours = values.reshape(count, size // 2, 2, size // 2, 2, 3).mean((2, 4)).reshape(count, -1)
    around = [np.roll(values, step, axis) for step in (-1, 1) for axis in (1, 2)]
    rough = (values - sum(around) / 4) ** 2
    tiles = rough.reshape(count, 8, size // 8, 8, size // 8, 3).mean((2, 4)).reshape(count, -1)
    return {"colours": colours, "roughness": np.log(1e-4 + tiles)}


def linear_aucs(images, kind):
    """(families,) AUC of telling one twin's photos from the other's, by the half that was not trained on."""
    aucs = []
    for family in images:
        num_photos = family.shape[1]
        x = features(family.reshape(-1, *family.shape[2:]))[kind]
        twin = np.repeat([0, 1], num_photos)
        half = np.tile(np.arange(num_photos), 2) % 2 == 0
        both = []
        for trained in (half, ~half):
            spread = (x[trained].std(0) + 1e-3) * np.sqrt(x.shape[1])
            scaled = (x - x[trained].mean(0)) / spread
            model = LogisticRegression(C=10, max_iter=300).fit(scaled[trained], twin[trained])
            both.append(roc_auc_score(twin[~trained], model.decision_function(scaled[~trained])))
        aucs.append(np.mean(both))
    return np.array(aucs)


@pytest.fixture(scope="module")
def photos():
    return draw(48, 24, 64, seed=11)


def regions(photos):
    pixels, face, front = photos
    size = pixels.shape[3]
    inner = np.zeros((size, size), bool)
    inner[2:-2, 2:-2] = True
    return {
        "all but the face": only(pixels, ~face),
        "a border of 2 pixels": only(pixels, ~face & ~inner),
        "hair": only(pixels, ~face & front),
    }


@pytest.mark.parametrize("region", ["all but the face", "a border of 2 pixels", "hair"])
@pytest.mark.parametrize("kind", ["colours", "roughness"])
def test_a_linear_classifier_learns_nothing_from(region, kind, photos):
    mean, half = interval(linear_aucs(regions(photos)[region], kind))
    assert half < 0.04  # narrow enough to notice a twin AUC of 0.55
    assert abs(mean - 0.5) < half


def test_the_same_classifier_does_learn_from_the_face(photos):
    mean, half = interval(linear_aucs(photos[0][:12], "colours"))
    assert mean - half > 0.9


def warmer(pixels):
    return np.minimum(pixels.astype(int) + np.array([16, 0, 0]), 255).astype(np.uint8)


def noisier(pixels):
    grain = np.random.default_rng(0).normal(0, 2.5, pixels.shape)
    return np.clip(pixels + grain, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize(("kind", "leak"), [("colours", warmer), ("roughness", noisier)])
def test_the_same_classifier_notices_if_one_twins_photos_are(kind, leak, photos):
    pixels, face, _ = (values[:24] for values in photos)
    planted = pixels.copy()
    planted[:, 1] = leak(pixels[:, 1])
    mean, half = interval(linear_aucs(only(planted, ~face), kind))
    assert mean - half > 0.5


class Small(nn.Module):
    """Three strided convolutions to a vector of 128, and a classifier of identities on it."""

    def __init__(self, size, num_people):
        super().__init__()
        widths, parts = (3, 24, 48, 96), []
        for before, after in pairwise(widths):
            parts += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        flat = widths[-1] * (size // 8) ** 2
        self.body = nn.Sequential(*parts, nn.Flatten(), nn.Linear(flat, 128, bias=False), nn.BatchNorm1d(128))
        self.head = nn.Linear(128, num_people, bias=False)

    def forward(self, images):
        return self.head(self.body(images))


def network_aucs(images, num_train, epochs=12):
    """(families,) twin AUC by cosine on families that were not trained on, after learning the others' identities."""
    num_families, _, num_photos, size = images.shape[:4]
    torch.manual_seed(0)
    x = torch.from_numpy(images.reshape(-1, size, size, 3)).permute(0, 3, 1, 2).float() / GREY - 1
    x = x.contiguous(memory_format=torch.channels_last)
    people = torch.arange(2 * num_families).repeat_interleave(num_photos)
    count = num_train * 2 * num_photos
    model = Small(size, 2 * num_train).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs * (count // 64))
    for _ in range(epochs):
        order = torch.randperm(count)
        for batch in order[: count // 64 * 64].split(64):
            loss = nn.functional.cross_entropy(model(x[batch]), people[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        found = torch.cat([model.body(part) for part in x[count:].split(256)])
    found = nn.functional.normalize(found, dim=1).reshape(num_families - num_train, 2 * num_photos, -1)
    first, second = np.triu_indices(2 * num_photos, 1)
    same = (first < num_photos) == (second < num_photos)
    return np.array([roc_auc_score(same, (v @ v.T).numpy()[first, second]) for v in found])


@pytest.fixture(scope="module")
def more_photos():
    return draw(80, 12, 48, seed=12)


def test_a_network_learns_nothing_about_twins_from_all_but_the_face(more_photos):
    pixels, face, _ = more_photos
    mean, half = interval(network_aucs(only(pixels, ~face), 50))
    assert half < 0.02
    assert abs(mean - 0.5) < half


def test_the_same_network_does_learn_from_the_face(more_photos):
    mean, half = interval(network_aucs(more_photos[0], 50))
    assert mean - half > 0.9
