"""The runs of an ablation: what is to be trained, what is there already, and training what is not."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.faceset import FaceData
from twin_dcal.data.families import SPLITS
from twin_dcal.data.splits import read_split
from twin_dcal.errors import ConfigError
from twin_dcal.evaluation.systems import file_hash
from twin_dcal.files import write_text
from twin_dcal.jsontext import parse_json

from .variants import Variant

logger = logging.getLogger(__name__)

SPLIT_NAME = "split.json"
RECORD_NAME = "finished.json"
"""Written when a run has ended; names its best_model.pth by hash."""

Standing = Literal["new", "unfinished", "finished"]

# What may differ without making it another run: where things lie, and how the computer is used. The people of the
# splits are compared instead of the file they were read from.
_MAY_DIFFER = {
    "data.data_dir", "data.dataset_info", "data.twin_pairs", "data.data_root", "data.split_file", "data.strict",
    "runtime.output_dir", "runtime.cache_dir", "runtime.device", "runtime.num_workers", "runtime.num_threads",
    "runtime.keep_checkpoints", "runtime.gradient_checkpointing", "runtime.save_every_steps",
    "runtime.save_every_minutes", "runtime.max_hours", "runtime.strategy", "training.max_skipped_batches",
}  # fmt: skip


@dataclass(frozen=True)
class PlannedRun:
    """One combination of branches with one seed, in a folder of its own."""

    variant: Variant
    seed: int
    config: TwinVerificationConfig

    @property
    def folder(self) -> Path:
        return self.config.runtime.run_folder

    @property
    def best_model(self) -> Path:
        return self.folder / "best_model.pth"


def plan_runs(
    config: TwinVerificationConfig, variants: Sequence[Variant], num_seeds: int, folder: str | Path
) -> list[PlannedRun]:
    """A run for every variant and seed 0 … num_seeds - 1, all on the split that is stored in `folder`."""
    home = Path(folder)
    return [
        PlannedRun(
            variant,
            seed,
            config.override(
                {
                    **variant.overrides(),
                    "runtime.seed": seed,
                    "runtime.output_dir": str(home / variant.name / f"seed{seed}"),
                    "data.split_file": str(home / SPLIT_NAME),
                }
            ),
        )
        for variant in variants
        for seed in range(num_seeds)
    ]


def split_of(face_data: FaceData) -> dict[str, str]:
    """Person to split, as `read_split` gives it for the file that `write_split` makes."""
    return {person: split for split in SPLITS for person in getattr(face_data, split).people}


def standing_of(run: PlannedRun, split: Mapping[str, str]) -> Standing:
    """How far a run has come. ConfigError where its folder holds a run of another configuration or split, or a
    finished one without its model."""
    if not (run.folder / "last.pth").is_file():
        return "new"
    differ = _differences(TwinVerificationConfig.from_file(run.folder / "config.json"), run.config)
    if not differ and read_split(run.folder / SPLIT_NAME) != split:
        differ = ["the split of the people"]
    if differ:
        raise ConfigError(
            f"{run.folder} holds a run of another configuration: {', '.join(differ)}; use another --output_dir, or "
            "--overwrite to train all runs anew"
        )
    recorded = _recorded_hash(run)
    if recorded and not run.best_model.is_file():
        raise ConfigError(
            f"{run.best_model} of a finished run is gone: bring it back, or delete {run.folder} to train this run anew"
        )
    return "finished" if recorded and recorded == file_hash(str(run.best_model)) else "unfinished"


def check_images(run: PlannedRun, face_data: FaceData) -> None:
    """Warn where a run that is there was trained on other images, by person. ManifestError when data.strict."""
    from twin_dcal.training.checks import check_data
    from twin_dcal.training.state import find_state

    found = find_state(run.folder, "auto")
    if found is not None:
        check_data(found[1], face_data, found[0], run.config.data.strict)


def train_runs(runs: Sequence[PlannedRun], standings: Sequence[Standing]) -> bool:
    """Train what is not finished, one after another. False if a run was asked to stop; the same call goes on.

    Args: standings: one for each run; none at all trains every run anew, whatever its folder holds.
    """
    from twin_dcal.training.run import train

    overwrite = not standings
    for number, (run, standing) in enumerate(zip(runs, standings or ["new"] * len(runs), strict=True), 1):
        told = f"run {number} of {len(runs)}: {run.variant.name}, seed {run.seed}"
        if standing == "finished":
            logger.info("%s: finished already, not repeated", told)
            continue
        logger.info("%s: %s", told, "resuming" if standing == "unfinished" else "training")
        (run.folder / RECORD_NAME).unlink(missing_ok=True)
        result = train(run.config, resume=None if overwrite else "auto", overwrite=overwrite)
        assert result is not None
        if not result.finished:
            return False
        record = {"best_model_sha256": file_hash(str(run.best_model)), "epochs": result.epochs}
        write_text(run.folder / RECORD_NAME, json.dumps(record, indent=1) + "\n")
    return True


def _differences(stored: TwinVerificationConfig, wanted: TwinVerificationConfig) -> list[str]:
    there, here = (each.model_dump(mode="json", exclude={"tracking"}) for each in (stored, wanted))
    return [
        f"{section}.{name} {there[section][name]!r}, now {value!r}"
        for section, values in here.items()
        for name, value in values.items()
        if f"{section}.{name}" not in _MAY_DIFFER and there[section][name] != value
    ]


def _recorded_hash(run: PlannedRun) -> str | None:
    """SHA-256 of the model that is the outcome of the folder's finished run; None where none is recorded."""
    try:
        place = run.folder / RECORD_NAME
        record: Any = parse_json(place.read_text("utf-8"), place)
    except (OSError, ValueError):
        return None
    told = record.get("best_model_sha256") if isinstance(record, dict) else None
    return told if isinstance(told, str) else None
