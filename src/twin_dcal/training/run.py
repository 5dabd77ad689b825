"""One training run from a configuration: data, folder, trackers, loop."""

import logging
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from twin_dcal import distributed
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.splits import write_split
from twin_dcal.device import process_device
from twin_dcal.errors import ConfigError
from twin_dcal.files import make_folder, owner_only, replacing
from twin_dcal.locking import locked
from twin_dcal.models.face.open import is_face_network
from twin_dcal.names import written

from .checks import check_sameness
from .curves import write_curves
from .loop import Trainer, TrainingResult
from .state import LAST, NUMBERED, cut_metrics, find_state, has_state, remove_leftovers
from .trackers.build import build_trackers, check_tracking
from .trackers.interface import Outcome, RunPlace
from .trackers.shared import MLFLOW_NOTE, WANDB_NOTE
from .trackers.tensorboard import NOTE_NAME as EVENTS_NOTE
from .trackers.tensorboard import remove_events

logger = logging.getLogger(__name__)


def train(
    config: TwinVerificationConfig, *, resume: str | None = None, overwrite: bool = False,
    validate_only: bool = False,
) -> TrainingResult | None:  # fmt: skip
    """Train as configured and write everything into runtime.output_dir.

    As one of a launcher's processes (torchrun), train together with the others; rank 0 writes. After a restart by the
    launcher the run goes on from its newest checkpoint by itself.

    Args: resume: a checkpoint, a folder of them, or "auto" for the output folder's newest, if there is one. overwrite:
    allow a folder that holds a run. Returns None with `validate_only`, which stops after data and model were built
    and needs no weights from a hub. ConfigError while another process trains into that folder.
    """
    began = time.time()
    if config.runtime.num_threads is not None:
        torch.set_num_threads(config.runtime.num_threads)
    folder = config.runtime.run_folder
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"runtime.output_dir {folder} is a file; name a folder")
    if written(folder) != str(folder):
        raise ConfigError(
            f"runtime.output_dir {folder}: its name is no UTF-8, which TensorBoard needs; name another"
        )
    with distributed.process_group(process_device(config.runtime.device).type):
        # Launchers of several nodes count restarts each for themselves.
        (restarted,) = distributed.any_of([distributed.launch().restarts > 0])
        may_hold_a_run = overwrite or validate_only or resume is not None or restarted
        # Before data are read, which may take minutes. Only rank 0 needs to see the files: on another node the folder
        # may be another one.
        distributed.on_rank_zero(lambda: None if may_hold_a_run else _refuse_run(folder))
        config = check_tracking(config)
        data = _read_data(config)
        with distributed.entered_by_main(nullcontext() if validate_only else _lock(folder)):
            check_sameness(config, data.face_data)
            # Another process may have trained into it meanwhile.
            distributed.on_rank_zero(lambda: None if may_hold_a_run else _refuse_run(folder))
            if validate_only:
                Trainer(config, data, folder, began=began, with_weights=not _is_on_hub(config))
                return None
            found = distributed.on_rank_zero(lambda: _find(folder, resume, restarted))
            with_weights = found is None or not _is_on_hub(config)
            trainer = Trainer(config, data, folder, began=began, with_weights=with_weights)
            return _train(trainer, found, restarted)


def _read_data(config: TwinVerificationConfig) -> TwinDataModule:
    data = TwinDataModule(config)
    data.setup()
    logger.info("%s", data.summary)
    for finding in data.face_data.findings:
        logger.warning("%s", finding)
    return data


def _is_on_hub(config: TwinVerificationConfig) -> bool:
    """Whether the weights to start from are the hub's, which neither a check nor a resumed run needs. A file is read:
    it is checked, and that of a face network says what to build."""
    return config.model.pretrained is True and not is_face_network(config.model.backbone)


def _lock(folder: Path) -> AbstractContextManager[None]:
    return locked(folder / ".train.lock", f"training into {folder}")


def _refuse_run(folder: Path) -> None:
    state = has_state(folder)
    if not state and not (folder / "best_model.pth").exists():
        return
    with _lock(folder):  # while another process trains into it, that is what must be told
        if state:
            raise ConfigError(
                f"{folder} holds a run already; use --resume auto to continue it, --overwrite to replace it, "
                "or another --output_dir"
            )
        raise ConfigError(
            f"{folder} holds a model already (best_model.pth); use --overwrite to replace it, or another --output_dir"
        )


def _find(folder: Path, resume: str | None, restarted: bool) -> tuple[Path, dict[str, Any]] | None:
    """The state to go on from; after a restart by the launcher, the folder's newest."""
    return find_state(folder, "auto" if restarted and (has_state(folder) or resume is None) else resume)


def _train(trainer: Trainer, found: tuple[Path, dict[str, Any]] | None, restarted: bool) -> TrainingResult:
    config, folder = trainer.config, trainer.output_dir
    if found is not None:
        path, state = found
        trainer.checkpoints.resume(state, path)
        if restarted:
            trainer.limit.began = state["began"]
    if distributed.is_main():
        _prepare(trainer, None if found is None else found[0].parent)
    logger.info(
        "%s on %s: %.1f million parameters, %s, peak learning rate %.3g", config.model.backbone, trainer.device,
        trainer.num_parameters / 1e6, "+".join(trainer.model.branches), trainer.peak_rate,
    )  # fmt: skip
    if not distributed.is_main():
        return trainer.fit()
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


def _prepare(trainer: Trainer, resumed_from: Path | None) -> None:
    """The output folder before training: cleared, or brought to where the state stands."""
    folder = trainer.output_dir
    if resumed_from is None:
        _clear(trainer)
    else:
        _bring_along(resumed_from, folder)
        cut_metrics(folder / "metrics.jsonl", trainer.progress)
    make_folder(folder)
    remove_leftovers(folder)
    trainer.config.save(folder / "config.json")
    write_split(trainer.data.face_data, folder / "split.json")


def _bring_along(old: Path, folder: Path) -> None:
    """The best model and the figures so far and the trackers' runs, when a run goes on in another folder."""
    if old.resolve() == folder.resolve():
        return
    for name in ("best_model.pth", "metrics.jsonl", MLFLOW_NOTE, WANDB_NOTE):
        if (old / name).is_file():
            with replacing(folder / name) as file:
                file.write((old / name).read_bytes())


def _clear(trainer: Trainer) -> None:
    """Remove what an earlier run left, and nothing else; only called when it may be replaced."""
    folder = trainer.output_dir
    remove_events(RunPlace(trainer.config, folder))
    written = (
        "metrics.jsonl",
        "best_model.pth",
        LAST,
        NUMBERED,
        "training_curves.png",
        MLFLOW_NOTE,
        WANDB_NOTE,
        EVENTS_NOTE,
    )
    for pattern in written:
        for path in folder.glob(pattern):
            path.unlink()
