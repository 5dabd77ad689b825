"""One training run from a configuration: data, folder, trackers, loop."""

import logging
from pathlib import Path

import torch

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.splits import write_split
from twin_dcal.errors import ConfigError
from twin_dcal.files import make_folder, owner_only, replacing

from .curves import write_curves
from .loop import Trainer, TrainingResult
from .trackers.build import build_trackers, check_tracking
from .trackers.interface import Outcome, RunPlace

logger = logging.getLogger(__name__)


def train(
    config: TwinVerificationConfig, *, resume: str | None = None, overwrite: bool = False,
    validate_only: bool = False,
) -> TrainingResult | None:  # fmt: skip
    """Train as configured and write everything into runtime.output_dir.

    Args: resume: a `last.pth`, or "auto" for the folder's own if there is one. overwrite: allow a folder that
    holds a run. Returns None with `validate_only`, which stops after data and model were built.
    """
    if config.runtime.num_threads is not None:
        torch.set_num_threads(config.runtime.num_threads)
    folder = Path(config.runtime.output_dir)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"runtime.output_dir {folder} is a file; name a folder")
    check_tracking(config)
    state = _state_to_resume(folder, resume)
    if state is None and not overwrite and not validate_only and (folder / "last.pth").exists():
        raise ConfigError(
            f"{folder} holds a run already; use --resume auto to continue it, --overwrite to replace it, "
            "or another --output_dir"
        )
    data = TwinDataModule(config)
    data.setup()
    logger.info("%s", data.summary)
    for finding in data.face_data.findings:
        logger.warning("%s", finding)
    trainer = Trainer(config, data, folder)
    if validate_only:
        return None
    if state is not None:
        trainer.resume(state)
        _bring_along(state.parent, folder)
    else:
        _clear(folder)
    make_folder(folder)
    config.save(folder / "config.json")
    write_split(data.face_data, folder / "split.json")
    logger.info(
        "%s on %s: %.1f million parameters, %s, peak learning rate %.3g", config.model.backbone, trainer.device,
        trainer.num_parameters / 1e6, "+".join(trainer.model.branches), trainer.peak_rate,
    )  # fmt: skip
    with owner_only():
        return _fit(trainer, RunPlace(config, folder, trainer.progress.step))


def _fit(trainer: Trainer, place: RunPlace) -> TrainingResult:
    """Train with the trackers of the configuration, and tell them how it ended."""
    tracker = build_trackers(place)
    outcome: Outcome = "failed"
    try:
        result = trainer.fit(tracker)
        write_curves(place.folder)
        outcome = "finished" if result.finished else "stopped"
        return result
    finally:
        tracker.close(outcome)


def _bring_along(old: Path, folder: Path) -> None:
    """The best model and the figures so far and the trackers' runs, when a run goes on in another folder."""
    if old.resolve() == folder.resolve():
        return
    for name in ("best_model.pth", "metrics.jsonl", "mlflow.json", "wandb.json"):
        if (old / name).is_file():
            with replacing(folder / name) as file:
                file.write((old / name).read_bytes())


def _clear(folder: Path) -> None:
    """Remove what an earlier run left, and nothing else; only called when it may be replaced."""
    written = (
        "metrics.jsonl",
        "best_model.pth",
        "last.pth",
        "checkpoint_epoch_*.pth",
        "logs/tensorboard/events.*",
        "training_curves.png",
        "mlflow.json",
        "wandb.json",
    )
    for pattern in written:
        for path in folder.glob(pattern):
            path.unlink()


def _state_to_resume(folder: Path, resume: str | None) -> Path | None:
    if resume is None:
        return None
    path = folder / "last.pth" if resume == "auto" else Path(resume)
    if path.is_dir():
        path = path / "last.pth"
    if not path.exists():
        if resume == "auto":
            return None
        raise ConfigError(f"--resume {resume}: no such file")
    return path
