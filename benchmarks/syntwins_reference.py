"""What can be had on SynTwins: an oracle that knows both faces, and a pretrained network not trained on them.

One row of docs/syntwins.md for each difficulty: twin and unrelated AUC with 95 % intervals by resampling families, on
families of their own seed. Photos go through JPEG, as in a set on disk.
Run: python benchmarks/syntwins_reference.py [--weights tf_efficientnet_lite0.safetensors] [--families 30] [--images 6]
"""

import argparse
import io
from itertools import combinations

import numpy as np
import timm
import torch
from PIL import Image

from twin_dcal.synth import oracle, render
from twin_dcal.synth.identity import DIFFICULTIES, draw_family
from twin_dcal.synth.photo import draw_photo
from twin_dcal.verification.counting import AllPairs, ListedPairs, count_pairs
from twin_dcal.verification.intervals import bootstrap
from twin_dcal.verification.scores import PairKind

SIZE, SEED = 112, 1_000


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--weights", help="of tf_efficientnet_lite0; without, only the oracle is run")
    parser.add_argument("--families", type=int, default=30)
    parser.add_argument("--images", type=int, default=6)
    options = parser.parse_args()
    for name, level in DIFFICULTIES.items():
        photos = photographed(options.families, options.images, level)
        print(f"{name}: oracle {figures(oracle_pairs(photos))}", flush=True)
        if options.weights:
            print(
                f"{name}: tf_efficientnet_lite0 {figures(network_pairs(photos, options.weights))}", flush=True
            )


def photographed(families, images, level):
    """(person number, family, known, photo, pixels) of every image."""
    shots = []
    for family in range(families):
        for twin, known in enumerate(oracle.know(draw_family(SEED, family, 2, level), 2 * SIZE)):
            for number in range(images):
                photo = draw_photo(SEED, family, twin, number, level)
                file = io.BytesIO()
                pixels, _ = render.take(known.person, known.maps, known.frame, photo, SIZE)
                Image.fromarray(pixels).save(file, "JPEG", quality=photo.quality, subsampling=0)
                shots.append((2 * family + twin, family, known, photo, np.asarray(Image.open(file))))
    return shots


def oracle_pairs(shots):
    """All genuine and twin pairs, and as many unrelated ones of neighbouring families, scored by the oracle."""
    rng = np.random.default_rng(0)
    pairs, scores, kinds = [], [], []
    of_person: dict[int, list[int]] = {}
    for row, (person, *_) in enumerate(shots):
        of_person.setdefault(person, []).append(row)
    known = {person: shots[rows[0]][2] for person, rows in of_person.items()}
    for person in of_person:
        others = [person ^ 1, int(rng.choice([p for p in of_person if p // 2 != person // 2]))]
        for kind, other in zip((PairKind.TWIN, PairKind.UNRELATED), others, strict=True):
            side = {
                row: oracle.position(shots[row][4], shots[row][3], known[person], known[other])
                for row in of_person[person] + of_person[other]
            }
            same = [(a, b, PairKind.GENUINE) for a, b in combinations(of_person[person], 2)]
            apart = [(a, b, kind) for a in of_person[person] for b in of_person[other]]
            for a, b, what in (same if kind == PairKind.TWIN else []) + apart:
                pairs.append((a, b))
                scores.append(oracle.pair_score((side[a], side[b])))
                kinds.append(what)
    first, second = np.array(pairs).T
    people, families = (np.array([shot[i] for shot in shots]) for i in (0, 1))
    return ListedPairs(
        np.array(scores), np.array(kinds, np.int8), first, second, people=people, families=families
    )


@torch.inference_mode()
def network_pairs(shots, weights):
    """All pairs, by the cosine of a pretrained network's pooled features."""
    network = timm.create_model(
        "tf_efficientnet_lite0", pretrained=True, pretrained_cfg_overlay={"file": weights}
    )
    network.reset_classifier(0)
    network.eval()
    images = torch.from_numpy(np.stack([shot[4] for shot in shots])).permute(0, 3, 1, 2).float() / 127.5 - 1
    images = torch.nn.functional.interpolate(images, size=(160, 160), mode="bilinear", antialias=True)
    features = torch.cat([network(batch) for batch in images.split(32)]).numpy()
    return AllPairs(features, np.array([shot[0] for shot in shots]), np.array([shot[1] for shot in shots]))


def figures(source):
    counts = count_pairs(source)
    made = bootstrap(source, counts=counts, num_replicates=1000)
    texts = []
    for kind in ("twin", "unrelated"):
        found = made.figures[kind]["roc_auc"]
        texts.append(f"{kind} AUC {found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]")
    return " · ".join(texts)


if __name__ == "__main__":
    main()
