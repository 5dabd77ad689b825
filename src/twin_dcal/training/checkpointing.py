"""What a run leaves behind: the best model so far, and states from which it goes on to the same bits."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from twin_dcal import distributed
from twin_dcal.checkpoint import save_model
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.faceset import FaceData
from twin_dcal.device import random_state, set_random_state
from twin_dcal.errors import ModelError
from twin_dcal.losses import DCALLoss
from twin_dcal.models.dcal import DCALVerificationModel

from .checks import check_data, data_summary
from .parallel import full_state_dict, load_full_state_dict, load_optimizer
from .provenance import Provenance
from .state import Progress, no_space, refuse_changes, write_state
from .state_entries import check_fit, check_kinds
from .stopping import TimeLimit
from .unreadable import UnreadableImages
from .validation import Validation

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Trained:
    """Everything that an optimizer step changes."""

    model: DCALVerificationModel
    loss: DCALLoss
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device


@dataclass(eq=False)
class Checkpointer:
    """Writes `best_model.pth` and training states into a run's folder, and reads a state back.

    All processes call its methods together; only rank 0 writes. saved_at: `time.monotonic()` of the last state.
    """

    output_dir: Path
    config: TwinVerificationConfig
    face_data: FaceData
    trained: Trained
    limit: TimeLimit
    unreadable: UnreadableImages
    progress: Progress = field(default_factory=Progress)
    best_figures: Mapping[str, float] = field(default_factory=dict)
    saved_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._data_told = data_summary(self.face_data) if distributed.is_main() else {}
        self.provenance = Provenance(self.config, self.face_data)
        self._saved: tuple[int, int, int] | None = None

    @property
    def best_path(self) -> Path:
        return self.output_dir / "best_model.pth"

    def save_best(self, validation: Validation | None) -> None:
        """Write `best_model.pth`. A full disk is reported, and only raised if there is no such file yet.

        Args: validation: what gave the model its threshold and calibration; None where nothing was validated.
        """
        weights = full_state_dict(self.trained.model.state_dict())
        if not distributed.is_main():
            return
        progress, split = self.progress, self.face_data
        try:
            save_model(
                self.best_path, self.trained.model, self.config, weights=weights,
                threshold=validation.threshold if validation else None,
                calibration=validation.calibration if validation else None,
                error_curve=validation.error_curve if validation else None,
                fusion=validation.fusion if validation else None,
                templates=validation.templates() if validation else (),
                familiarity=self.provenance.familiarity,
                training={
                    "epoch": progress.epoch, "step": progress.step, "images_seen": progress.images,
                    "figures": dict(validation.figures) if validation else {},
                    "split": {name: list(getattr(split, name).people) for name in ("train", "val", "test")},
                    "seed": self.config.runtime.seed,
                    "torch": str(torch.__version__),
                    **self.provenance.faces,
                },
            )  # fmt: skip
        except OSError as error:
            if not self.best_path.exists():
                raise
            logger.error("best_model.pth not written (%s); the one before stays", no_space(error))

    def save_state(self) -> None:
        """Write everything that a resumed run needs to a numbered checkpoint and `last.pth`, unless it is there.

        If it cannot be written (a full disk), that is said, older checkpoints stay, and training goes on.
        """
        progress, began = self.progress, time.monotonic()
        self.saved_at = began
        here = (progress.epoch, progress.batch, progress.step)
        if self._saved == here:
            return
        trained = self.trained
        self.unreadable.share()
        content = {
            "config": self.config.model_dump(mode="json"), "people": list(self.face_data.train.people),
            "data": self._data_told,
            "model": full_state_dict(trained.model.state_dict()), "loss": full_state_dict(trained.loss.state_dict()),
            "optimizer": full_state_dict(trained.optimizer.state_dict()), "scaler": trained.scaler.state_dict(),
            "progress": progress.to_dict(), "best_figures": dict(self.best_figures), "began": self.limit.began,
            "rng": distributed.gather_objects(random_state(trained.device)),
            "unreadable": dict(self.unreadable.reasons),
        }  # fmt: skip
        written = False
        if distributed.is_main():
            try:
                write_state(
                    self.output_dir, content, step=progress.step, keep=self.config.runtime.keep_checkpoints
                )
                written = True
            except OSError as error:
                logger.error(
                    "checkpoint not written (%s); the one before stays, training goes on", no_space(error)
                )
        (written,) = distributed.any_of([written])
        self._saved = here if written else None
        self.limit.note("save", time.monotonic() - began)

    def resume(self, state: Mapping[str, Any], path: Path) -> None:
        """Go on with a state, which `path` held. ConfigError or ModelError if it is of another run or people."""
        trained = self.trained
        check_kinds(state, path)
        refuse_changes(state["config"], self.config, path)
        check_data(state, self.face_data, path, self.config.data.strict)
        check_fit(state, trained.model, trained.loss, trained.optimizer, path)
        try:
            load_full_state_dict(trained.model, state["model"])
            load_full_state_dict(trained.loss, state["loss"])
            load_optimizer(trained.optimizer, state["optimizer"])
            trained.scaler.load_state_dict(state["scaler"])
            if len(state["rng"]) == distributed.world_size():
                set_random_state(state["rng"][distributed.rank()], trained.device)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"{path}: does not fit this configuration: {reason}") from error
        self.progress, self.best_figures = Progress.from_dict(state["progress"]), state["best_figures"]
        self.unreadable.restore(state.get("unreadable", {}).items())
        if len(state["rng"]) != distributed.world_size():
            logger.warning(
                "%s: number of processes when it was written %d, now %d: the run goes on, but not to the same bits",
                path, len(state["rng"]), distributed.world_size(),
            )  # fmt: skip
        logger.info("resuming at epoch %d, batch %d", self.progress.epoch + 1, self.progress.batch + 1)
