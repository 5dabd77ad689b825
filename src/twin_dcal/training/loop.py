"""The training loop: one process, resumable, with its state in plain sight.

Everything random is keyed: batches by (seed, epoch), augmentation by (seed, epoch, batch, slot), the rest (drop
path, distractors) by torch's generator, whose state is in `last.pth`. That is what makes a resumed run the run.
"""

import logging
import math
import shutil
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from tqdm import tqdm

from twin_dcal.checkpoint import read_tensors, save_model, write_tensors
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.faceset import FaceSet
from twin_dcal.data.samplers import FamilyBatchSampler
from twin_dcal.errors import ConfigError, ManifestError, ModelError
from twin_dcal.losses import DCALLoss
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.models.preprocessing import Preprocessing
from twin_dcal.verification.embeddings import embed_batches
from twin_dcal.verification.scores import all_pair_scores

from .device import amp_dtype, resolve_device
from .optimization import build_optimizer, learning_rate, lr_factor
from .trackers import Tracker, Trackers
from .validation import Validation, validate

logger = logging.getLogger(__name__)

STATE_FORMAT = "twin_dcal.state"
STATE_VERSION = 1


@dataclass(frozen=True)
class TrainingResult:
    """`finished` is False when the run was asked to stop; `--resume` goes on from `last.pth`."""

    finished: bool
    best_model: Path
    best_figures: Mapping[str, float]
    epochs: int
    seconds: float


@dataclass
class Progress:
    """Where the run stands. `batch` is the next batch of `epoch`."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    images: int = 0
    best_key: tuple[float, float] | None = None
    stale_validations: int = 0


class Trainer:
    """Trains one model on one data module and writes into one folder.

    Seeds torch's global generator with runtime.seed before the model is built.
    """

    def __init__(self, config: TwinVerificationConfig, data: TwinDataModule, output_dir: Path) -> None:
        self.config, self.data, self.output_dir = config, data, output_dir
        self.tracker: Tracker = Trackers()
        _check_validation(data.face_data.val)
        self.device = resolve_device(config.runtime.device)
        self.amp_dtype = amp_dtype(config.runtime, self.device)
        torch.manual_seed(config.runtime.seed)
        self.model = DCALVerificationModel.from_config(config).to(self.device)
        self.preprocessing = Preprocessing.of(self.model.backbone, config)
        self.loss = DCALLoss(self.model.width, data.num_people, self.model.branches, config.loss).to(
            self.device
        )
        training = config.training
        self.peak_rate = learning_rate(training, training.batch_size * training.accumulation_steps)
        self.optimizer = build_optimizer(self.model, self.loss, training, self.peak_rate)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp_dtype == torch.float16)
        self.loader = data.train_loader()
        self.sampler = cast(FamilyBatchSampler, self.loader.batch_sampler)
        self.progress = Progress()
        self.best_figures: Mapping[str, float] = {}
        if training.warmup_epochs >= training.num_epochs:
            logger.warning(
                "warm-up (%g epochs) is as long as training (%d): the peak learning rate is never reached",
                training.warmup_epochs, training.num_epochs,
            )  # fmt: skip
        self._stop = False

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def fit(self, tracker: Tracker | None = None) -> TrainingResult:
        """Train to the end, to early stopping, or until SIGINT or SIGTERM asks to stop; all leave checkpoints."""
        began, finished = time.monotonic(), True
        self.tracker = tracker or self.tracker
        num_epochs = self.config.training.num_epochs
        with self._stopping_on_signals():
            while finished and self.progress.epoch < num_epochs and not self._should_stop_early():
                finished = self._run_epoch()
        self.save_state()
        if self.progress.best_key is None:
            logger.warning(
                "no validation was made: best_model.pth holds the last weights, without a threshold"
            )
            self._save_best(None)
        return TrainingResult(
            finished or self.progress.epoch == num_epochs,
            self.best_path,
            self.best_figures,
            self.progress.epoch,
            time.monotonic() - began,
        )

    @property
    def best_path(self) -> Path:
        return self.output_dir / "best_model.pth"

    @property
    def state_path(self) -> Path:
        return self.output_dir / "last.pth"

    def _run_epoch(self) -> bool:
        """The rest of the current epoch, validation and checkpoint included. False if stopped on the way."""
        progress, training = self.progress, self.config.training
        self.sampler.set_epoch(progress.epoch, progress.batch)
        batches = self.sampler.num_batches
        self.model.train()
        if training.backbone_lr_factor == 0:  # frozen: its batch statistics too
            self.model.backbone.pretrained.eval()
        sums: dict[str, float] = defaultdict(float)
        began, seen = time.monotonic(), 0
        bar = tqdm(
            total=batches, initial=progress.batch, desc=f"epoch {progress.epoch + 1}/{training.num_epochs}",
            unit="batch", disable=None, leave=False,
        )  # fmt: skip
        with bar:
            for batch in self.loader:
                losses = self._train_batch(batch, batches)
                seen += len(batch["image"])
                for name, value in losses.items():
                    sums[name] += value * len(batch["image"])
                rate = seen / (time.monotonic() - began)
                bar.set_postfix_str(_postfix(losses, rate))
                bar.update()
                if self._stop and progress.batch < batches:
                    return False
        figures = {f"train/{name}": total / max(1, seen) for name, total in sums.items()}
        seconds = time.monotonic() - began
        figures["train/images_per_second"] = seen / seconds
        self._finish_epoch(figures, seconds)
        return not self._stop

    def _train_batch(self, batch: Mapping[str, Tensor], num_batches: int) -> dict[str, float]:
        """Forward and backward of one of the epoch's batches; an optimizer step when its accumulation is full.

        The last accumulation of an epoch may be of fewer batches and is averaged over those.
        """
        steps = self.config.training.accumulation_steps
        group = min(steps, num_batches - self.progress.batch // steps * steps)
        images = self.preprocessing.normalize(batch["image"].to(self.device, non_blocking=True))
        people, families = (batch[key].to(self.device) for key in ("person", "family"))
        with torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            embeddings = self.model(images)
        total, branches = self.loss(embeddings.active(), people, families)
        self.scaler.scale(total / group).backward()
        # All figures in one read, after the backward pass was queued.
        values = torch.stack([total.detach(), *branches.values()]).tolist()
        if not math.isfinite(values[0]):
            raise ModelError(
                f"the loss is {values[0]} at epoch {self.progress.epoch + 1}, batch {self.progress.batch + 1}: "
                "lower training.learning_rate, or set runtime.amp to off"
            )
        self.progress.batch += 1
        self.progress.images += len(images)
        if self.progress.batch % steps == 0 or self.progress.batch == num_batches:
            self._step()
        return dict(zip(["loss", *branches], values, strict=True))

    def _step(self) -> None:
        factor = lr_factor(self.progress.step, **self._schedule())
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        if self.config.training.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            parameters = [*self.model.parameters(), *self.loss.parameters()]
            torch.nn.utils.clip_grad_norm_(parameters, self.config.training.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1

    def _schedule(self) -> dict[str, Any]:
        training = self.config.training
        per_epoch = math.ceil(self.sampler.num_batches / training.accumulation_steps)
        return {
            "total": per_epoch * training.num_epochs, "warmup": round(per_epoch * training.warmup_epochs),
            "scheduler": training.scheduler,
        }  # fmt: skip

    def _finish_epoch(self, figures: dict[str, float], seconds: float) -> None:
        progress, training = self.progress, self.config.training
        progress.epoch, progress.batch = progress.epoch + 1, 0
        figures["train/learning_rate"] = self.optimizer.param_groups[0]["lr"]
        weights = self.loss.log_variances.detach().tolist()
        figures |= {
            f"train/w_{branch}": weight for branch, weight in zip(self.model.branches, weights, strict=True)
        }
        is_due = progress.epoch % training.validate_every == 0 or progress.epoch == training.num_epochs
        if is_due and self.data.face_data.val.num_images:
            validation = self._validate()
            figures |= {f"val/{name}": value for name, value in validation.figures.items()}
            key = validation.key(training.best_by)
            if progress.best_key is None or key < progress.best_key:
                progress.best_key, progress.stale_validations = key, 0
                self.best_figures = validation.figures
                self._save_best(validation)
            else:
                progress.stale_validations += 1
        self.tracker.log(figures, step=progress.step, epoch=progress.epoch)
        left = timedelta(seconds=round(seconds * (training.num_epochs - progress.epoch)))
        logger.info("epoch %d/%d  %s  left %s", progress.epoch, training.num_epochs, _line(figures), left)
        self.save_state()
        keep_numbered(self.state_path, progress.epoch, self.config.runtime.keep_checkpoints)

    def _validate(self) -> Validation:
        faces = self.data.face_data.val
        loader = self.data.eval_loader(faces, self.config.training.batch_size)
        # In full precision, as decisions are made later: the threshold is set on these scores.
        embeddings = embed_batches(self.model, (batch["image"] for batch in loader), self.preprocessing)
        scores = all_pair_scores(embeddings, faces.person_of, faces.image_families)
        return validate(scores, f"validation: {faces.num_people} people, {faces.num_images} images")

    def _should_stop_early(self) -> bool:
        patience = self.config.training.early_stopping_patience
        if patience is None or self.progress.stale_validations < patience:
            return False
        logger.info("stopping early: %d validations without a better model", patience)
        return True

    def _save_best(self, validation: Validation | None) -> None:
        save_model(
            self.best_path, self.model, self.config,
            threshold=validation.threshold if validation else None,
            calibration=validation.calibration if validation else None,
            error_curve=validation.error_curve if validation else None,
            training={
                "epoch": self.progress.epoch, "step": self.progress.step, "images_seen": self.progress.images,
                "figures": dict(validation.figures) if validation else {},
                "split": {
                    name: list(getattr(self.data.face_data, name).people) for name in ("train", "val", "test")
                },
                "seed": self.config.runtime.seed,
                "torch": str(torch.__version__),
            },
        )  # fmt: skip

    def save_state(self) -> None:
        """Everything `resume` needs, to `last.pth`."""
        progress = vars(self.progress)
        if self.progress.best_key is not None:
            progress = {**progress, "best_key": list(self.progress.best_key)}
        write_tensors(self.state_path, {
            "format": STATE_FORMAT, "format_version": STATE_VERSION,
            "config": self.config.model_dump(mode="json"), "people": list(self.data.face_data.train.people),
            "model": self.model.state_dict(), "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict(),
            "gradients": self._open_gradients(), "progress": dict(progress),
            "best_figures": dict(self.best_figures), "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        })  # fmt: skip

    def resume(self, path: Path) -> None:
        """Continue the run that wrote `path`. ModelError if it is no training state, or of other people."""
        state = read_tensors(path, STATE_FORMAT, STATE_VERSION)
        _refuse_changes(state["config"], self.config, path)
        if state["people"] != list(self.data.face_data.train.people):
            raise ModelError(
                f"{path}: was trained on {len(state['people'])} people that are not the {self.data.num_people} of "
                "this data set; pass the run's split.json as data.split_file"
            )
        try:
            self.model.load_state_dict(state["model"])
            self.loss.load_state_dict(state["loss"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"{path}: does not fit this configuration: {reason}") from error
        self.scaler.load_state_dict(state["scaler"])
        for parameter, gradient in zip(self._trained(), state["gradients"], strict=False):
            parameter.grad = None if gradient is None else gradient.to(self.device)
        progress = state["progress"]
        progress["best_key"] = None if progress["best_key"] is None else tuple(progress["best_key"])
        self.progress, self.best_figures = Progress(**progress), state["best_figures"]
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"]:
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        logger.info("resuming at epoch %d, batch %d", self.progress.epoch + 1, self.progress.batch + 1)

    def _trained(self) -> list[torch.nn.Parameter]:
        return [*self.model.parameters(), *self.loss.parameters()]

    def _open_gradients(self) -> list[Tensor | None]:
        """Gradients of an accumulation that is not full yet; empty between optimizer steps."""
        gradients = [parameter.grad for parameter in self._trained()]
        return gradients if any(gradient is not None for gradient in gradients) else []

    @contextmanager
    def _stopping_on_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask the run to stop after the current batch; a second SIGINT interrupts at once."""

        def ask(number: int, frame: object) -> None:
            if self._stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stop = True
            logger.warning("stopping after this batch (%s)", signal.Signals(number).name)

        if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
            yield
            return
        previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _check_validation(faces: FaceSet) -> None:
    """ManifestError for validation people of whom no genuine or no impostor pair can be made."""
    if faces.num_images and (faces.num_people < 2 or faces.images_per_person.most < 2):
        raise ManifestError(
            f"validation needs 2 people, one of them with 2 images; it has {faces.num_people} with "
            f"{faces.images_per_person.most} at most. Give it more, or none at all."
        )


_MAY_CHANGE = {
    "training.num_epochs", "training.early_stopping_patience", "training.validate_every", "training.best_by",
    "model.pretrained", "runtime.device", "runtime.num_workers", "runtime.num_threads", "runtime.output_dir",
    "runtime.keep_checkpoints", "runtime.gradient_checkpointing",
    "data.data_dir", "data.dataset_info", "data.twin_pairs", "data.data_root", "data.split_file",
}  # fmt: skip


def _refuse_changes(stored: Mapping[str, Any], config: TwinVerificationConfig, path: Path) -> None:
    """ConfigError naming the keys in which a run would go on as another. Where data lies may change freely."""
    given = config.model_dump(mode="json")
    changed = [
        f"{section}.{name} ({stored[section].get(name)!r}, now {value!r})"
        for section in ("model", "training", "loss", "data", "runtime")
        for name, value in given[section].items()
        if f"{section}.{name}" not in _MAY_CHANGE and stored[section].get(name) != value
    ]
    if changed:
        raise ConfigError(f"{path}: was trained with another {', '.join(changed)}; resume with the same")


def keep_numbered(state: Path, epoch: int, number: int) -> None:
    """Keep the state as `checkpoint_epoch_0001.pth`, and of these the newest `number`.

    A hard link where the file system has them: `state` is replaced as a whole, so the link keeps this epoch's.
    """
    if number:
        numbered = state.with_name(f"checkpoint_epoch_{epoch:04d}.pth")
        numbered.unlink(missing_ok=True)
        try:
            numbered.hardlink_to(state)
        except OSError:
            shutil.copyfile(state, numbered)
    for old in sorted(state.parent.glob("checkpoint_epoch_*.pth"))[: -number or None]:
        old.unlink()


def _postfix(losses: Mapping[str, float], rate: float) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items()) + f"  {rate:.1f} images/s"


def _line(figures: Mapping[str, float]) -> str:
    shown = [
        f"{name.partition('/')[2]} {value:.4g}"
        for name, value in figures.items()
        if not name.startswith(("train/w_", "train/learning"))
    ]
    return "  ".join(shown)
