"""How often pictures are warned about as unlike those a model was trained on: drawn faces, real ones, and both ways.

    python benchmarks/familiarity.py --drawn SYNTWINS --real FACES [--photos FOLDER] \
        [--drawn_model MODEL] [--real_model MODEL]

Prints, for each model and set of pictures, the share beyond the limit: of crops as the engine takes them, and of
photographs after it has aligned their faces. The same for the distance of the network's own features (Mahalanobis in
32 directions, the rest pooled; limit at 99 % of validation), which is why it is not what models use.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twin_dcal import TwinInferenceEngine
from twin_dcal.errors import ImageError
from twin_dcal.extraction.listing import images_below
from twin_dcal.inference.aligning import Align, Prepared

DIRECTIONS = 32


class Features:
    """How far features are from those of training pictures."""

    def __init__(self, train_ND: NDArray[np.float64]) -> None:
        self._mean = train_ND.mean(axis=0)
        _, sizes, directions = np.linalg.svd(train_ND - self._mean, full_matrices=False)
        variances = sizes**2 / (len(train_ND) - 1)
        self._directions, self._variances = directions[:DIRECTIONS], variances[:DIRECTIONS]
        left = max(train_ND.shape[1] - DIRECTIONS, 1)
        self._rest = max(variances[DIRECTIONS:].sum() / left, 1e-12)

    def distance(self, features_ND: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = features_ND - self._mean
        along = moved @ self._directions.T
        rest = (moved**2).sum(axis=1) - (along**2).sum(axis=1)
        return np.asarray((along**2 / self._variances).sum(axis=1) + rest / self._rest)


def images(folder: Path, most: int) -> list[Path]:
    found = [Path(path) for path in images_below(folder)]
    return found[:: max(1, -(-len(found) // most))]


def looked(engine: TwinInferenceEngine, paths: Sequence[Path]) -> list[Prepared]:
    """Pictures as the engine takes them, without those that show no face."""
    prepared = []
    for path in paths:
        try:
            prepared.append(
                replace(engine.prepare_image(path), photo=None)
            )  # photographs would fill the memory
        except ImageError:
            continue
    return prepared


def features(engine: TwinInferenceEngine, pictures: Sequence[Prepared]) -> NDArray[np.float64]:
    pixels = [
        np.stack([each.pixels for each in pictures[at : at + 16]]) for at in range(0, len(pictures), 16)
    ]
    return np.concatenate([engine.backend.embed(part) for part in pixels]).astype(np.float64)


def rows(
    model: str, own: Path, sets: dict[str, tuple[Path, Align]], most: int, looks_only: bool
) -> Iterator[tuple[str, int, float, float | None]]:
    """Name, number, share warned about, and the share that the features' distance would warn about."""
    engines: dict[Align, TwinInferenceEngine] = {
        "never": TwinInferenceEngine(model, "cpu", 0.0, align="never"),
        "auto": TwinInferenceEngine(model, "cpu", 0.0, align="auto"),
    }
    plain = engines["never"]
    if plain.source.familiarity is None:
        raise SystemExit(f"{model}: says nothing about its training pictures")
    known, limit = None, 0.0
    if not looks_only:
        known = Features(features(plain, looked(plain, images(own / "train", most))))
        limit = float(
            np.quantile(known.distance(features(plain, looked(plain, images(own / "val", most)))), 0.99)
        )
    for name, (folder, align) in sets.items():
        pictures = looked(engines[align], images(folder, most))
        judged = [each.seen.familiarity for each in pictures]
        beyond = float(np.mean([told is not None and told["beyond"] for told in judged]))
        other = None if known is None else float((known.distance(features(plain, pictures)) > limit).mean())
        yield name, len(pictures), beyond, other


def main() -> None:
    parser = argparse.ArgumentParser(description="Shares of pictures warned about.")
    parser.add_argument("--drawn", type=Path, required=True, help="a SynTwins set")
    parser.add_argument(
        "--real", type=Path, required=True, help="crops of real faces, with train, val and test"
    )
    parser.add_argument("--photos", type=Path, help="folders of photographs, aligned first")
    parser.add_argument("--drawn_model")
    parser.add_argument("--real_model")
    parser.add_argument("--most", type=int, default=500, help="pictures of each set")
    parser.add_argument(
        "--looks_only", action="store_true", help="leave out the last column, which embeds everything"
    )
    options = parser.parse_args()
    sets: dict[str, tuple[Path, Align]] = {
        "drawn, test": (options.drawn / "test", "never"), "real, val": (options.real / "val", "never"),
        "real, test": (options.real / "test", "never"),
    }  # fmt: skip
    for folder in sorted(options.photos.iterdir()) if options.photos else ():
        sets[f"photographs, {folder.name}"] = (folder, "auto")
    print("| model of | pictures | number | warned about | by features instead |\n|---|---|---|---|---|")
    for kind, model, own in (
        ("drawn faces", options.drawn_model, options.drawn), ("real faces", options.real_model, options.real)
    ):  # fmt: skip
        if model is None:
            continue
        for name, number, share, other in rows(model, own, sets, options.most, options.looks_only):
            told = "–" if other is None else f"{other:.1%}"
            print(f"| {kind} | {name} | {number} | {share:.1%} | {told} |", flush=True)


if __name__ == "__main__":
    main()
