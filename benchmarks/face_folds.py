"""Preset `face` against the untouched network on every family of a data set: folds by family, several seeds.

    OMP_NUM_THREADS=1 python benchmarks/face_folds.py --network FILE.onnx --data_dir FACES --output_dir DIR

Each fold trains on the other folds' families (a tenth of all for validation) and is tested once; the pairs of all folds
together make the figures, and intervals leave out families. Finished runs are not repeated.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from twin_dcal.ablation.flow import Plan, ablate
from twin_dcal.ablation.variants import Variant
from twin_dcal.config import TwinVerificationConfig, dotted_keys
from twin_dcal.config_text import parse_dotted
from twin_dcal.data.manifest import load_face_data
from twin_dcal.evaluation.compare import open_stored
from twin_dcal.evaluation.inputs import DataFiles
from twin_dcal.evaluation.sampling import Sampling
from twin_dcal.metrics.averaging import JackknifedRun, jackknife, mean_difference
from twin_dcal.metrics.pair_stream import PairBlock, PairSource

VARIANTS = (Variant(label="untouched", changes=(("training.num_epochs", 0),)), Variant(label="face"))
FIGURES = [("twin", "eer"), ("twin", "roc_auc"), ("unrelated", "eer"), ("unrelated", "roc_auc")]


@dataclass(frozen=True, eq=False)
class Pooled:
    """The pairs of several sources side by side; no pair is of two."""

    sources: tuple[PairSource, ...]

    @property
    def num_pairs(self) -> int:
        return sum(source.num_pairs for source in self.sources)

    @property
    def on_grid(self) -> bool:
        return all(source.on_grid for source in self.sources)

    @property
    def people(self) -> NDArray[np.intp]:
        return self._joined("people")

    @property
    def families(self) -> NDArray[np.intp]:
        return self._joined("families")

    def blocks(self) -> Iterator[PairBlock]:
        start = 0
        for source in self.sources:
            for block in source.blocks():
                yield replace(block, first=block.first + start, second=block.second + start)
            start += len(source.people)

    def _joined(self, name: str) -> NDArray[np.intp]:
        parts, start = [], 0
        for source in self.sources:
            numbers = np.asarray(getattr(source, name))
            parts.append(numbers + start)
            start += int(numbers.max()) + 1
        return np.concatenate(parts)


def without_splits(data_dir: Path, folder: Path) -> Path:
    """The same people as links in one folder: folds are drawn anew, whatever splits the data set has."""
    faces = folder / "faces"
    faces.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        for person in sorted((data_dir / split).iterdir()):
            link = faces / person.name
            if not link.exists():
                link.symlink_to(person.resolve(), target_is_directory=True)
    shutil.copy(data_dir / "twin_pairs_infor.json", faces)
    return faces


def write_folds(config: TwinVerificationConfig, num_folds: int, folder: Path) -> list[Path]:
    """A split.json for each fold; families in an order drawn from seed 0."""
    data = load_face_data(config.override({"data.split_file": None}).data, 0)
    families: dict[int, list[str]] = {}
    for number, split in enumerate((data.train, data.val, data.test)):
        for person, family in zip(split.people, split.family_of.tolist(), strict=True):
            families.setdefault(1000 * number + family, []).append(person)
    order = np.random.default_rng(0).permutation(len(families)).tolist()
    groups = [list(families.values())[place] for place in order]
    paths = []
    for fold in range(num_folds):
        test = groups[fold::num_folds]
        rest = [group for group in groups if group not in test]
        num_val = round(len(groups) / 10)
        parts = {"train": rest[num_val:], "val": rest[:num_val], "test": test}
        paths.append(folder / f"fold{fold}.json")
        people = {name: sorted(person for group in part for person in group) for name, part in parts.items()}
        paths[-1].write_text(json.dumps(people))
    return paths


def pooled(folder: Path, num_folds: int, variant: str, seed: int) -> JackknifedRun:
    files = [
        folder / f"fold{fold}" / variant / f"seed{seed}/evaluation/embeddings.npz"
        for fold in range(num_folds)
    ]
    sources = [open_stored(file, DataFiles(), Sampling()).scored(None, "test").source for file in files]
    return jackknife(Pooled(tuple(sources)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", required=True, metavar="FILE.onnx")
    parser.add_argument("--data_dir", required=True, metavar="FACES")
    parser.add_argument("--output_dir", required=True, metavar="DIR")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    options, dotted = parser.parse_known_args()
    torch.set_num_threads(1)
    folder = Path(options.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    config = TwinVerificationConfig.preset("face").override(
        {
            "model.pretrained": options.network, "data.data_dir": str(without_splits(Path(options.data_dir), folder)),
            "runtime.num_workers": 0,
            "runtime.device": "cpu", "runtime.cache_dir": str(folder / "kept"), "training.cached_views": 2,
            **parse_dotted(dotted, keys=dotted_keys()),
        }
    )  # fmt: skip
    for fold, split in enumerate(write_folds(config, options.folds, folder)):
        one = config.override({"data.split_file": str(split)})
        if ablate(Plan(one, VARIANTS, options.seeds, folder / f"fold{fold}", num_replicates=0)) is None:
            raise SystemExit(130)
        for kept in (folder / "kept").glob("*.npy"):  # of use to this fold only
            kept.unlink()
    runs = {
        variant.name: [pooled(folder, options.folds, variant.name, seed) for seed in range(options.seeds)]
        for variant in VARIANTS
    }
    print("| impostors, figure | untouched | face, mean of seeds | difference | 95 % interval | by seed |")
    print("|---|---|---|---|---|---|")
    for key in FIGURES:
        found = mean_difference(runs["face"], runs["untouched"], key)
        means = [
            100 * float(np.mean([run.exact[key] for run in runs[name]])) for name in ("untouched", "face")
        ]
        seeds = ", ".join(f"{100 * value:+.2f}" for value in found.by_seed)
        low, high = (float("nan") if end is None else 100 * end for end in (found.low, found.high))
        print(
            f"| {' '.join(key)} % | {means[0]:.2f} | {means[1]:.2f} | {100 * found.difference:+.2f} | "
            f"[{low:+.2f}, {high:+.2f}] | {seeds} |"
        )


if __name__ == "__main__":
    main()
