"""The reference table of docs/syntwins.md: what tells SynTwins apart, per difficulty, on unseen families.

    python benchmarks/syntwins_reference.py --data DIR --backbone tf_efficientnet_lite0=lite0.safetensors \\
        --backbone vit_small_patch14_dinov2=dinov2.safetensors --size 224
    python benchmarks/syntwins_reference.py --data DIR --image-size 64 --train

Systems: the oracle; pretrained backbones as they are (timm's own pooled features, cosine), images enlarged to
`--size`; with --train the `quickstart` preset, trained on the train split of each difficulty. Sets are drawn to
DIR/<difficulty>-<pixels> unless they are there. Each row: twin and unrelated AUC with 95 % intervals by families.
"""

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from twin_dcal.checkpoint import load_model
from twin_dcal.cli.train import main as train
from twin_dcal.embed import embed_images
from twin_dcal.metrics.intervals import family_intervals
from twin_dcal.metrics.pair_stream import AllPairs, ListedPairs, PairSource
from twin_dcal.metrics.pairs import PairKind
from twin_dcal.models.backbone import build_backbone
from twin_dcal.synth import oracle
from twin_dcal.synth.generate import Settings, generate
from twin_dcal.synth.identity import DIFFICULTIES
from twin_dcal.synth.truth import Shot, Truth, read_truth

CPU_BATCH = 16


def tested(truth: Truth) -> list[Shot]:
    return [shot for shot in truth.shots if truth.settings.split_of(shot.family) == "test"]


def pixels_of(truth: Truth, shot: Shot) -> np.ndarray:
    with Image.open(truth.folder / shot.path) as image:
        return np.asarray(image)


def oracle_pairs(truth: Truth, kind: PairKind) -> ListedPairs:
    """Every person against their twins, or against one person of the next family."""
    shots = tested(truth)
    rows: dict[str, list[int]] = {}
    for row, shot in enumerate(shots):
        rows.setdefault(shot.person, []).append(row)
    scores, kinds, first, second = [], [], [], []
    for pair in rivals(truth, shots, kind):
        sides = []
        for index, known in enumerate(pair):
            for row in rows[f"{known.person.family:05d}{'abc'[known.person.twin]}"]:
                photo = truth.photo(shots[row])
                sides.append((index, row, oracle.position(pixels_of(truth, shots[row]), photo, *pair)))
        for (mine, a, x), (yours, b, y) in combinations(sides, 2):
            scores.append(oracle.pair_score((x, y)))
            kinds.append(PairKind.GENUINE if mine == yours else kind)
            first.append(a)
            second.append(b)
    people, families = [shot.person for shot in shots], [shot.family for shot in shots]
    return ListedPairs(scores, kinds, first, second, people=people, families=families)


def rivals(truth: Truth, shots: list[Shot], kind: PairKind) -> Iterator[tuple[oracle.Known, oracle.Known]]:
    families = sorted({shot.family for shot in shots})
    if kind == PairKind.TWIN:
        for family in families:
            yield from combinations(truth.members(family), 2)
        return
    before = truth.members(families[-1])
    for family in families:
        members = truth.members(family)
        yield before[0], members[0]
        before = members


def backbone_embeddings(truth: Truth, name: str, weights: str, size: int) -> AllPairs:
    """timm's pooled features of a pretrained network, images enlarged to `size`."""
    backbone = build_backbone(name, pretrained=weights, image_size=size)
    network, shots = backbone.pretrained.eval(), tested(truth)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    rows = []
    with torch.inference_mode():
        for start in range(0, len(shots), CPU_BATCH):
            faces = np.stack([pixels_of(truth, shot) for shot in shots[start : start + CPU_BATCH]])
            images = torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255
            images = F.interpolate(images, size=(size, size), mode="bicubic", antialias=True)
            rows.append(network((images.clamp(0, 1) - mean) / std))
    return AllPairs(torch.cat(rows).numpy(), *labels(shots))


def trained_embeddings(truth: Truth, run: Path) -> AllPairs:
    """The `quickstart` preset trained on this set (unless `run` holds its checkpoint)."""
    file = run / "best_model.pth"
    if not file.is_file():
        given = ["--config", "quickstart", "--data_dir", str(truth.folder), "--output_dir", str(run)]
        if train([*given, "--overwrite"]) != 0:
            raise SystemExit("training failed")
    shots = tested(truth)
    names = [str(truth.folder / shot.path) for shot in shots]
    return AllPairs(embed_images(load_model(file), names, batch_size=64, strict=True).vectors, *labels(shots))


def labels(shots: list[Shot]) -> tuple[list[str], list[int]]:
    return [shot.person for shot in shots], [shot.family for shot in shots]


def auc(source: PairSource, section: str) -> str:
    made = family_intervals(source).figures[section]["roc_auc"]
    return f"{made.estimate:.3f} [{made.low:.3f}, {made.high:.3f}]"


def report(difficulty: str, size: int, name: str, twin: PairSource, unrelated: PairSource) -> None:
    row = (difficulty, f"{size} px", name, auc(twin, "twin"), auc(unrelated, "unrelated"))
    print("| " + " | ".join(row) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="where the sets are drawn to")
    parser.add_argument("--difficulty", choices=DIFFICULTIES, action="append", help="default: all")
    parser.add_argument("--families", type=int, default=260)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--backbone", action="append", default=[], metavar="NAME=WEIGHTS", help="of timm")
    parser.add_argument("--size", type=int, default=224, help="pixels that backbones are given")
    parser.add_argument("--train", action="store_true", help="train the quickstart preset")
    options = parser.parse_args()
    size = options.image_size
    print("| difficulty | images | system | twin AUC | unrelated AUC |\n|---|---|---|---|---|", flush=True)
    for difficulty in options.difficulty or DIFFICULTIES:
        folder = options.data / f"{difficulty}-{size}"
        settings = Settings(
            families=options.families, images=options.images, image_size=size, difficulty=difficulty
        )
        generate(folder, settings, workers=2, resume=True)
        truth = read_truth(folder)
        report(
            difficulty, size, "oracle", *(oracle_pairs(truth, k) for k in (PairKind.TWIN, PairKind.UNRELATED))
        )
        for name, weights in (text.split("=", 1) for text in options.backbone):
            pairs = backbone_embeddings(truth, name, weights, options.size)
            report(difficulty, size, f"{name}, pretrained", pairs, pairs)
        if options.train:
            pairs = trained_embeddings(truth, options.data / f"run-{difficulty}-{size}")
            report(difficulty, size, "quickstart, trained", pairs, pairs)


if __name__ == "__main__":
    main()
