"""Nothing but the face tells twins apart: classifiers that do not see it stay at chance, those that do leave it."""

from functools import cache

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from twin_dcal.synth import oracle, render
from twin_dcal.synth.camera import sample
from twin_dcal.synth.canonical import OUTLINE
from twin_dcal.synth.features import glasses_cover
from twin_dcal.synth.hair import front_cover
from twin_dcal.synth.identity import DIFFICULTIES, draw_family
from twin_dcal.synth.photo import draw_photo
from twin_dcal.synth.scene import look

SIZE, FAMILIES, PHOTOS = 48, 24, 24
MARGIN = 0.12  # face units beside the outline that count as face

pytestmark = pytest.mark.slow


@cache
def photographed():
    """Photos (F, 2, P, S, S, 3) of twins, and where bare face is seen in each (F, 2, P, S, S)."""
    level = DIFFICULTIES["easy"]
    pixels = np.zeros((FAMILIES, 2, PHOTOS, SIZE, SIZE, 3), np.float32)
    face = np.zeros((FAMILIES, 2, PHOTOS, SIZE, SIZE), bool)
    for family in range(FAMILIES):
        for twin, known in enumerate(oracle.know(draw_family(11, family, 2, level), 2 * SIZE)):
            person, maps, frame = known.person, known.maps, known.frame
            for number in range(PHOTOS):
                photo = draw_photo(11, family, twin, number, level)
                pixels[family, twin, number] = render.take(person, maps, frame, photo, SIZE)[0] / 255
                scene, _ = look(person, maps, frame, photo, SIZE)
                outline = sample(maps.layers, scene.texture_x, scene.texture_y)[..., OUTLINE]
                hidden = front_cover(person, photo, scene)
                if photo.glasses:
                    hidden = np.maximum(hidden, glasses_cover(person.frame, photo, scene))
                face[family, twin, number] = (outline < MARGIN) & (hidden < 0.98)
    return pixels, face


def aucs_within_families(features):
    """(F,) AUC of a linear classifier, A against B of each family: half of the photos train, half test."""
    found = []
    for one, other in features.reshape(FAMILIES, 2, PHOTOS, -1):
        half = PHOTOS // 2
        train = np.concatenate([one[:half], other[:half]])
        centre, spread = train.mean(0), train.std(0) + 1e-3
        labels = np.repeat([0, 1], half)
        model = LogisticRegression(C=0.01, max_iter=300).fit((train - centre) / spread, labels)
        test = np.concatenate([one[half:], other[half:]])
        found.append(
            roc_auc_score(np.repeat([0, 1], PHOTOS - half), model.decision_function((test - centre) / spread))
        )
    return np.array(found)


def interval(values):
    """Mean and its 95 % half-width (normal; families are independent)."""
    return values.mean(), 1.96 * values.std(ddof=1) / np.sqrt(len(values))


def test_background_border_and_hair_tell_nothing():
    pixels, face = photographed()
    masked = np.where(face[..., None], 0.5, pixels)
    border = pixels.copy()
    border[:, :, :, 3:-3, 3:-3] = 0.5
    for name, shown in {"face masked out": masked, "border": border}.items():
        mean, half = interval(aucs_within_families(shown))
        assert half < 0.08, name  # sharp enough to see a leak
        assert abs(mean - 0.5) <= 1.5 * half, (name, mean, half)


def test_the_same_classifier_sees_twins_apart_by_their_faces():
    pixels, face = photographed()
    mean, half = interval(aucs_within_families(np.where(face[..., None], pixels, 0.5)))
    assert mean - half > 0.8


def test_a_small_network_that_sees_no_face_stays_at_chance_on_new_families():
    torch = pytest.importorskip("torch")
    pixels, face = photographed()
    masked = np.where(face[..., None], 0.5, pixels)
    seen, blind = (twin_auc_of_a_network(torch, shown) for shown in (pixels, masked))
    assert abs(blind[0] - 0.5) <= max(1.5 * blind[1], 0.05), blind
    assert seen[0] > 0.55, seen


def twin_auc_of_a_network(torch, pixels):
    """A CNN that learns A from B within each training family on half-hidden photos; here: tells pairs of new photos.

    Trained on pairs (same twin or not) of two thirds of the families; (mean, 95 % half-width) of the twin AUC over the
    other families.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(pixels).permute(0, 1, 2, 5, 3, 4).contiguous() - 0.5
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 24, 5, 2, 2), torch.nn.ReLU(), torch.nn.Conv2d(24, 48, 3, 2, 1), torch.nn.ReLU(),
        torch.nn.Conv2d(48, 64, 3, 2, 1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64 * 36, 64),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.05)
    trained = FAMILIES * 2 // 3
    for _ in range(250):
        family = rng.integers(trained, size=8)
        shots = rng.integers(PHOTOS, size=(8, 2, 4))
        batch = torch.stack(
            [images[f, t, s] for f, pair in zip(family, shots, strict=True) for t in (0, 1) for s in pair[t]]
        )
        unit = torch.nn.functional.normalize(net(batch), dim=1).reshape(8, 8, 64)
        cosine = unit @ unit.transpose(1, 2) / 0.2
        same = torch.arange(8)[:, None] // 4 == torch.arange(8)[None] // 4
        upper = torch.ones(8, 8).triu(1).bool()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            (cosine - cosine[:, upper].mean())[:, upper], same[upper].float().expand(8, -1)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = []
    with torch.inference_mode():
        for family in range(trained, FAMILIES):
            unit = torch.nn.functional.normalize(net(images[family].flatten(0, 1)), dim=1)
            cosine = (unit @ unit.T).numpy()
            twin = np.repeat([0, 1], PHOTOS)
            upper = np.triu_indices(2 * PHOTOS, 1)
            found.append(roc_auc_score((twin[:, None] == twin[None])[upper], cosine[upper]))
    return interval(np.array(found))
