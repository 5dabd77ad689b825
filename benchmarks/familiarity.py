"""How often pictures are warned about as unlike those a model was trained on: drawn faces, real ones, and both ways.

    python benchmarks/familiarity.py --drawn SYNTWINS --real FACES [--photos FOLDER] \
        [--drawn_model MODEL] [--real_model MODEL]

Prints, for each model and set of pictures, the share beyond the limit: of crops as the engine takes them, and of
photographs after it has aligned their faces. The same for the distance of the network's own features (Mahalanobis in
32 directions, the rest pooled; limit at 99 % of validation), which is why it is not what models use.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twin_dcal import TwinInferenceEngine
from twin_dcal.errors import ImageError
from twin_dcal.extraction.listing import images_below

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


def seen(engine: TwinInferenceEngine, paths: Sequence[Path]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether each picture is warned about, and its features; pictures without a face are left out."""
    prepared = []
    for path in paths:
        try:
            prepared.append(engine.look(path))
        except ImageError:
            continue
    beyond = np.array([picture.seen.familiarity["beyond"] for picture in prepared])
    features = [
        engine.backend.embed(np.stack([picture.pixels for picture in prepared[start : start + 16]]))
        for start in range(0, len(prepared), 16)
    ]
    return beyond, np.concatenate(features).astype(np.float64)


def rows(
    model: str, own: Path, sets: dict[str, tuple[Path, str]], most: int
) -> list[tuple[str, int, float, float]]:
    """Name, number, share warned about, and the share that the features' distance would warn about."""
    engines = {align: TwinInferenceEngine(model, "cpu", 0.0, align=align) for align in ("never", "auto")}
    if engines["never"].source.familiarity is None:
        raise SystemExit(f"{model}: says nothing about its training pictures")
    _, train = seen(engines["never"], images(own / "train", most))
    known = Features(train)
    limit = np.quantile(known.distance(seen(engines["never"], images(own / "val", most))[1]), 0.99)
    found = []
    for name, (folder, align) in sets.items():
        beyond, features = seen(engines[align], images(folder, most))
        found.append((name, len(beyond), beyond.mean(), (known.distance(features) > limit).mean()))
    return found


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
    options = parser.parse_args()
    sets = {
        "drawn, test": (options.drawn / "test", "never"), "real, val": (options.real / "val", "never"),
        "real, test": (options.real / "test", "never"),
    }  # fmt: skip
    for folder in sorted(options.photos.iterdir()) if options.photos else ():
        sets[f"photographs, {folder.name}"] = (folder, "auto")
    print("| model of | pictures | number | warned about | by features instead |\n|---|---|---|---|---|")
    for kind, model, own in (
        ("drawn faces", options.drawn_model, options.drawn), ("real faces", options.real_model, options.real)
    ):  # fmt: skip
        for name, number, share, other in rows(model, own, sets, options.most) if model else ():
            print(f"| {kind} | {name} | {number} | {share:.1%} | {other:.1%} |", flush=True)


if __name__ == "__main__":
    main()
