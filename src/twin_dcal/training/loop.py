"""The training loop: resumable, one process or many, with its state in plain sight.

Everything random is keyed: batches by (seed, epoch), augmentation by (seed, epoch, batch, slot), the rest (drop
path, distractors) by each process's torch generator, whose state is in every checkpoint. That is what makes a resumed
run the run. Processes decide together, at optimizer steps, whether to save or stop.
"""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from twin_dcal import distributed
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.dataset import batch_faults
from twin_dcal.data.samplers import FamilyBatchSampler
from twin_dcal.device import amp_dtype, process_device, seed_process
from twin_dcal.errors import ModelError
from twin_dcal.losses import DCALLoss
from twin_dcal.models.backbone import Frozen
from twin_dcal.models.face_backbone import FaceBackbone
from twin_dcal.models.preprocessing import Preprocessing
from twin_dcal.plural import plural
from twin_dcal.progress import ProgressBar

from .batchnorm import BatchStatistics, share_statistics
from .checkpointing import Checkpointer, Trained
from .checks import check_processes, check_validation
from .console import Clock, EpochTable, best_note, images_line, losses_line, validated_kinds
from .framing import crop_landmarks
from .frozen_features import FOLDER, kept_features
from .initial import initial_model
from .objective import Objective, two_images
from .optimization import build_optimizer, freeze_backbone, learning_rate, learning_rates, rate_factor
from .parallel import Parallel, full_state_dict, grad_norm, parallelize
from .start import Standing
from .state import Progress
from .stopping import Reason, StopSignals, TimeLimit
from .trackers import Tracker, Trackers
from .unreadable import UnreadableImages
from .validation import run_validation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """`finished` is False when the run was stopped by a signal or its time limit; `--resume auto` goes on. warnings:
    what a user of the model should know."""

    finished: bool
    best_model: Path
    best_figures: Mapping[str, float]
    epochs: int
    seconds: float
    stopped_by: Reason | None = None
    warnings: tuple[str, ...] = ()


class Trainer:
    """Trains one model on one data module and writes into one folder, together with the run's other processes.

    Seeds torch's global generator with runtime.seed before the model is built. Only rank 0 writes and tracks.
    Args: began: `time.time()` from which runtime.max_hours counts; None is now. with_weights: False leaves out the
    pretrained ones, since a training state follows.
    """

    def __init__(
        self, config: TwinVerificationConfig, data: TwinDataModule, output_dir: Path, *, began: float | None = None,
        with_weights: bool = True,
    ) -> None:  # fmt: skip
        self.config, self.data, self.output_dir = config, data, output_dir
        self.tracker: Tracker = Trackers()
        check_validation(data.face_data.val)
        self.device = process_device(config.runtime.device)
        check_processes(config, self.device)
        torch.manual_seed(config.runtime.seed)
        self.model = initial_model(config, with_weights=with_weights)
        if isinstance(self.model.backbone, FaceBackbone):
            paths = data.face_data.train.paths
            self.model.backbone.frame(distributed.on_rank_zero(lambda: crop_landmarks(config, paths)))
        self.model.to(self.device)
        self.preprocessing = Preprocessing.of(self.model.backbone, config)
        self.loss = DCALLoss(self.model.width, data.num_people, self.model.branches, config.loss).to(
            self.device
        )
        training = config.training
        self.peak_rate = learning_rate(training, training.batch_size * training.accumulation_steps)
        if training.backbone_lr_factor == 0:
            freeze_backbone(self.model)
        self.parallel = self._parallel(amp_dtype(config.runtime, self.device))
        self.statistics = BatchStatistics(self.model)
        self.optimizer = build_optimizer(self.model, self.loss, training, self.peak_rate)
        is_fp16 = self.parallel.objective.amp_dtype == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=is_fp16)
        self.loader = data.train_loader(distributed.rank(), distributed.world_size())
        self.sampler = cast(FamilyBatchSampler, self.loader.batch_sampler)
        if config.training.cached_views:
            kept = kept_features(
                self.model, data, self.preprocessing, config, _cache_folder(config, output_dir)
            )
            self.loader = DataLoader[Any](kept, batch_sampler=self.sampler, generator=torch.Generator())
        self.unreadable, self.stop = UnreadableImages(), StopSignals()
        self.limit = TimeLimit(config.runtime.max_hours, time.time() if began is None else began)
        self.checkpoints = Checkpointer(
            output_dir, config, data.face_data,
            Trained(self.model, self.loss, self.optimizer, self.scaler, self.device), self.limit, self.unreadable,
        )  # fmt: skip
        kinds = validated_kinds(data.face_data.val)
        self._table, self._best_note = EpochTable(training.num_epochs, self._loss_names[1:], kinds), ""
        self._stopped_by: Reason | None = None
        self._stepped_at = time.monotonic()
        self._nonfinite_in_step = False

    def _parallel(self, dtype: torch.dtype | None) -> Parallel:
        if distributed.world_size() > 1:
            share_statistics(self.model, self.device)
        objective = Objective(
            self.model,
            self.loss,
            across_ranks=self.config.loss.across_ranks,
            amp_dtype=dtype,
            twin_partners=self.config.model.pwca_partner == "twin",
        )
        self.model.train()
        example = two_images(self.config.data.image_size, self.device)
        parallel = parallelize(objective, self.config.runtime.strategy, self.device, example)
        if distributed.rank() > 0:
            seed_process(self.config.runtime.seed, distributed.rank())
        return parallel

    @property
    def progress(self) -> Progress:
        return self.checkpoints.progress

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def fit(self, tracker: Tracker | None = None) -> TrainingResult:
        """Train to the end, to early stopping, to the time limit, or until SIGINT or SIGTERM; all leave checkpoints."""
        began, finished = time.monotonic(), True
        self.tracker = tracker or self.tracker
        num_epochs = self.config.training.num_epochs
        self.checkpoints.saved_at = self._stepped_at = began
        if self.progress.epoch < num_epochs:
            logger.info("%s", self._table.header())
        with self.stop.installed():
            self._validate_start()
            while finished and self.progress.epoch < num_epochs and not self._should_stop_early():
                finished = self._run_epoch()
        self.checkpoints.save_state()
        if self.progress.best_key is None:
            logger.warning(
                "no validation was made: best_model.pth holds the last weights, without a threshold"
            )
            self.checkpoints.save_best(None)
        finished = finished or self.progress.epoch == num_epochs
        return TrainingResult(
            finished, self.checkpoints.best_path, self.checkpoints.best_figures, self.progress.epoch,
            time.monotonic() - began, None if finished else self._stopped_by, self.checkpoints.provenance.warnings,
        )  # fmt: skip

    def _run_epoch(self) -> bool:
        """The rest of the current epoch, validation and checkpoint included. False if stopped on the way."""
        progress, training = self.progress, self.config.training
        self.sampler.set_epoch(progress.epoch, progress.batch)
        if progress.batch == 0:
            progress.sums, progress.seen = {}, 0
        batches = self.sampler.num_batches
        self.model.train()
        if training.backbone_lr_factor == 0:  # frozen: its batch statistics too
            self.model.backbone.pretrained.eval()
        clock, seen = Clock(), progress.seen
        bar = ProgressBar(
            batches, f"epoch {progress.epoch + 1}/{training.num_epochs}", "batches", done=progress.batch,
            shown=distributed.is_main(),
        )  # fmt: skip
        with bar:
            for batch in clock.waiting(self.loader):
                losses = self._train_batch(batch, batches)
                bar.note(losses_line(losses, (progress.seen - seen) / clock.seconds))
                bar.update()
                if self._is_step(progress.batch, batches) and self._should_pause(progress.batch == batches):
                    return False
        figures = {f"train/{name}": total / max(1, progress.seen) for name, total in progress.sums.items()}
        figures["train/images_per_second"] = (progress.seen - seen) / clock.seconds
        figures["train/waiting_share"] = clock.waited / clock.seconds
        if progress.skipped:
            figures["train/skipped_batches"] = progress.skipped
        self._finish_epoch(figures, clock.seconds)
        return not self._should_pause(epoch_ends=False, stepped=False)

    def _is_step(self, done: int, num_batches: int) -> bool:
        return done % self.config.training.accumulation_steps == 0 or done == num_batches

    def _train_batch(self, batch: Mapping[str, Tensor], num_batches: int) -> dict[str, float]:
        """Forward and backward of one of the epoch's batches; an optimizer step when its accumulation is full.

        The last accumulation of an epoch may be of fewer batches and is averaged over those. Returns the losses of
        the global batch.
        """
        progress, steps = self.progress, self.config.training.accumulation_steps
        group = min(steps, num_batches - progress.batch // steps * steps)
        images = self._inputs(batch)
        people, families = (batch[key].to(self.device) for key in ("person", "family"))
        is_step = self._is_step(progress.batch + 1, num_batches)
        self.unreadable.note(self.data.train_faces.paths, batch_faults(batch))
        self.statistics.save()
        with self.parallel.synchronizing(is_step):
            outcome = self.parallel(images, people, families, batch["index"])
            self.scaler.scale(outcome.loss / group).backward()  # type: ignore[no-untyped-call]
        values = outcome.figures.tolist()  # all figures in one read, after the backward pass was queued
        progress.batch += 1
        progress.images += len(outcome.image_index)
        if math.isfinite(values[0]):
            progress.seen += len(outcome.image_index)
            for name, value in zip(self._loss_names, values, strict=True):
                progress.sums[name] = progress.sums.get(name, 0.0) + value * len(outcome.image_index)
        else:
            self._nonfinite_in_step = True
            self.statistics.restore()  # they may hold what made the loss infinite
            self._skip(f"the loss is {values[0]}", outcome.image_index)
        if is_step:
            self._step(outcome.image_index)
        return dict(zip(self._loss_names, values, strict=True))

    def _inputs(self, batch: Mapping[str, Tensor]) -> Tensor | Frozen:
        """What the model takes: normalised images, or kept outputs of its frozen part."""
        if "image" in batch:
            return self.preprocessing.normalize(batch["image"].to(self.device, non_blocking=True))
        kept = [value for name, value in sorted(batch.items()) if name.startswith("frozen_")]
        return tuple(value.to(self.device, non_blocking=True).float() for value in kept)

    @property
    def _loss_names(self) -> list[str]:
        return ["loss", *(name for name in ("sa", "glca", "pwca") if name in self.model.branches)]

    def _skip(self, what: str, index: Tensor) -> None:
        """Count a batch that is left out. ModelError naming its images once there are too many."""
        progress, allowed = self.progress, self.config.training.max_skipped_batches
        progress.skipped += 1
        told = images_line(self.data.train_faces.paths, index.tolist())
        place = f"{what} at epoch {progress.epoch + 1}, batch {progress.batch}"
        if progress.skipped > allowed:
            raise ModelError(
                f"{place}; {plural(progress.skipped, 'batch', 'batches')} had none that is finite and "
                "training.max_skipped_batches is "
                f"{allowed}: lower training.learning_rate, or set runtime.amp to off. The batch's images: "
                f"{told}"
            )
        logger.warning("%s: left out (%d of at most %d): %s", place, progress.skipped, allowed, told)

    def _step(self, index: Tensor) -> None:
        progress = self.progress
        factor = rate_factor(self.config.training, progress.epoch, progress.batch, self.sampler.num_batches)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        progress.step += 1
        if not self._nonfinite_in_step:
            self.scaler.unscale_(self.optimizer)
            limit = self.config.training.clip_norm
            parameters = [*self.model.parameters(), *self.loss.parameters()]
            norm = grad_norm(torch.nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit))
            if math.isfinite(norm) or self.scaler.is_enabled():  # the scaler leaves out such steps itself
                self.scaler.step(self.optimizer)
                self.scaler.update()
            else:
                self._skip(f"the gradient's norm is {norm}", index)
        self._nonfinite_in_step = False
        self.optimizer.zero_grad(set_to_none=True)

    def _should_pause(self, epoch_ends: bool, *, stepped: bool = True) -> bool:
        """Between optimizer steps: save if it is time to, and whether the run is to stop. All processes agree."""
        runtime, now = self.config.runtime, time.monotonic()
        if stepped:
            self.limit.note("step", now - self._stepped_at)
        steps, minutes = runtime.save_every_steps, runtime.save_every_minutes
        is_due = stepped and (
            (steps is not None and self.progress.step % steps == 0)
            or (minutes is not None and now - self.checkpoints.saved_at >= 60 * minutes)
        )
        near = self.limit.is_near("validation" if epoch_ends else "step")
        asked, near, is_due = distributed.any_of([bool(self.stop), near, is_due])
        if asked or near:
            self._stopped_by = "signal" if asked else "time limit"
            if near and not asked:
                logger.warning("stopping before the limit of %g hours", runtime.max_hours)
            return True
        if is_due:
            self.checkpoints.save_state()
        self._stepped_at = time.monotonic()
        return False

    def _finish_epoch(self, figures: dict[str, float], seconds: float) -> None:
        progress, training = self.progress, self.config.training
        progress.epoch, progress.batch = progress.epoch + 1, 0
        rates = learning_rates(self.optimizer)
        figures["train/learning_rate"] = rates["new"]
        figures["train/learning_rate_backbone"] = rates["backbone"]
        weights = full_state_dict(self.loss.state_dict())["log_variances"].tolist()
        figures |= {
            f"train/w_{branch}": weight for branch, weight in zip(self.model.branches, weights, strict=True)
        }
        self._best_note = ""
        is_due = progress.epoch % training.validate_every == 0 or progress.epoch == training.num_epochs
        if is_due and self.data.face_data.val.num_images:
            began = time.monotonic()
            figures |= self._validate()
            self.limit.note("validation", time.monotonic() - began)
        self.unreadable.share()
        if self.unreadable:
            figures["train/unreadable_images"] = len(self.unreadable)
        if distributed.is_main():
            self.tracker.log(figures, step=progress.step, epoch=progress.epoch)
        left = seconds * (training.num_epochs - progress.epoch)
        logger.info("%s", self._table.line(progress.epoch, figures, left, self._best_note))
        self.checkpoints.save_state()
        self._stepped_at = time.monotonic()

    def _validate(self) -> dict[str, float]:
        """Figures of the validation people; the model becomes the best one if it is."""
        progress, best_by = self.progress, self.config.training.best_by
        validation = run_validation(self.parallel, self.data, self.preprocessing, self.unreadable)
        found = None
        if validation is not None:
            standing = None
            if self._start_competes and validation.source is not None:
                standing = Standing.of(validation.source, validation.kinds(best_by))
            kinds = validation.kinds(best_by)
            found = (dict(validation.figures), validation.key(best_by), standing, kinds)
        empty: tuple[Any, ...] = ({}, (math.inf, 0.0), None, ())
        figures, key, standing, kinds = distributed.broadcast_object(found) or empty
        is_better = progress.best_key is None or key < progress.best_key
        progress.stale_validations = 0 if is_better else progress.stale_validations + 1
        if is_better and self._may_replace_start(standing):
            before = None if progress.best_key is None else progress.best_key[0]
            self._best_note = best_note(kinds, key[0], before)
            progress.best_key, self.checkpoints.best_figures = key, figures
            self.checkpoints.save_best(validation)
        return {f"val/{name}": value for name, value in figures.items()}

    @property
    def _start_competes(self) -> bool:
        """Whether only a clearly better model may replace the face network that training started from."""
        asked = self.config.training.replace_start == "clearly_better"
        return asked and self.model.backbone.starts_as_verifier

    def _may_replace_start(self, standing: Standing | None) -> bool:
        """Notes the start's own standing, and compares later ones with it."""
        progress = self.progress
        if standing is None or progress.step == 0:
            progress.start = standing
            return True
        gain = None if progress.start is None else standing.gain_over(progress.start)
        if gain is None or gain.low > 0:
            return True
        logger.info(
            "epoch %d is better than the untouched network by %.2f points of EER [%.2f, %.2f] on validation families, "
            "which may be chance: best_model.pth stays as it is (training.replace_start)",
            progress.epoch, *(100 * value for value in (gain.estimate, gain.low, gain.high)),
        )  # fmt: skip
        return False

    def _validate_start(self) -> None:
        """Before the first step of a network that can tell people apart already: it competes for best_model.pth."""
        is_start = self.progress.step == 0 and self.progress.best_key is None
        config = self.config
        competes = (
            self.model.backbone.starts_as_verifier
            or config.model.init_from
            or config.training.num_epochs == 0
        )
        if not (is_start and competes and self.data.face_data.val.num_images):
            return
        figures = self._validate()
        if distributed.is_main():
            self.tracker.log(figures, step=0, epoch=0)
        logger.info("%s", self._table.line(0, figures, None, self._best_note))
        self.model.train()

    def _should_stop_early(self) -> bool:
        patience = self.config.training.early_stopping_patience
        if patience is None or self.progress.stale_validations < patience:
            return False
        logger.info("stopping early: %d validations without a better model", patience)
        return True


def _cache_folder(config: TwinVerificationConfig, output_dir: Path) -> Path:
    return Path(config.runtime.cache_dir) if config.runtime.cache_dir else output_dir / FOLDER
