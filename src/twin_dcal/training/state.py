"""Training states on disk: numbered checkpoints, `last.pth`, and what a resumed run checks before it goes on.

A state is written beside its place, flushed, renamed to `checkpoint_step_00000100.pth`, and `last.pth` then becomes a
link to it: whatever the moment a run is killed, the newest complete state is found. Every record of a file has a
CRC-32, which is checked when it is read; a damaged file counts as absent.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from twin_dcal.checkpoint import read_tensors, write_tensors
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ConfigError, ModelError
from twin_dcal.files import disk_full_error, writing

from .start import Standing
from .trackers.jsonlines import keep_lines

logger = logging.getLogger(__name__)

FORMAT = "twin_dcal.state"
FORMAT_VERSION = 2
LAST = "last.pth"
NUMBERED = "checkpoint_*.pth"


@dataclass
class Progress:
    """Where the run stands, at an optimizer step. `batch` is the next batch of `epoch`; skipped: batches left out for
    a loss that is not finite; start: how the face network did before the first step, where it competes with what
    becomes of it; sums, seen: over this epoch's images so far, of losses and of images."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    images: int = 0
    skipped: int = 0
    best_key: tuple[float, float] | None = None
    stale_validations: int = 0
    start: Standing | None = None
    sums: dict[str, float] = field(default_factory=dict)
    seen: int = 0

    def to_dict(self) -> dict[str, Any]:
        best, start = self.best_key, self.start
        return {
            **asdict(self),
            "best_key": None if best is None else list(best),
            "start": None if start is None else start.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        best, start = values["best_key"], values.get("start")
        read = {
            "best_key": None if best is None else tuple(best),
            "start": None if start is None else Standing.from_dict(start),
        }
        return cls(**{**values, **read})


def write_state(folder: Path, content: Mapping[str, Any], *, step: int, keep: int) -> None:
    """Write a state and keep the newest `keep`. OSError if it cannot be written; older ones then stay."""
    path = folder / f"checkpoint_step_{step:08d}.pth"
    write_tensors(path, {"format": FORMAT, "format_version": FORMAT_VERSION, **content})
    _point(folder / LAST, path)
    for old in sorted(folder.glob(NUMBERED))[:-keep]:
        old.unlink()


def _point(last: Path, newest: Path) -> None:
    """Make `last` the same file as `newest`, a copy where the file system has no hard links."""
    temporary = last.with_name(f".{last.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        temporary.hardlink_to(newest)
    except OSError:
        with writing(last):
            shutil.copyfile(newest, temporary)
        temporary.chmod(0o600)
    temporary.replace(last)


def has_state(folder: Path) -> bool:
    return (folder / LAST).exists() or any(folder.glob(NUMBERED))


def find_state(folder: Path, resume: str | None) -> tuple[Path, dict[str, Any]] | None:
    """The state to go on from. Args: resume: "auto" for the newest of `folder`, if any; a folder for its newest; a
    file for that file; None for none. ConfigError if nothing is there, ModelError if nothing there can be read."""
    if resume is None:
        return None
    path = folder if resume == "auto" else Path(resume)
    if resume == "auto" and not has_state(folder):
        return None
    if path.is_dir():
        if not has_state(path):
            raise ConfigError(f"--resume {resume}: holds no {LAST} and no numbered checkpoint")
        return _newest_readable(path)
    if not path.exists():
        raise ConfigError(f"--resume {resume}: no such file")
    return path, read_tensors(path, FORMAT, FORMAT_VERSION)


def _newest_readable(folder: Path) -> tuple[Path, dict[str, Any]]:
    problems: list[str] = []
    for path in _newest_first(folder):
        try:
            state = read_tensors(path, FORMAT, FORMAT_VERSION)
        except ModelError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            logger.warning("%s; going back to %s", problem, path.name)
        return path, state
    raise ModelError(f"no checkpoint in {folder} can be read: {problems[0]}; --overwrite starts anew")


def _newest_first(folder: Path) -> Iterator[Path]:
    last = folder / LAST
    if last.exists():
        yield last
    for path in sorted(folder.glob(NUMBERED), reverse=True):
        if not (last.exists() and path.samefile(last)):
            yield path


def remove_leftovers(folder: Path) -> None:
    """Delete half-written files of a run that was killed while saving."""
    for pattern in (f".{LAST}*.tmp", f".{NUMBERED}.*.tmp", ".best_model.pth.*.tmp"):
        for path in folder.glob(pattern):
            path.unlink()


def cut_metrics(path: Path, progress: Progress) -> None:
    """Leave out of `metrics.jsonl` what was logged after the state: the resumed run logs it again."""
    done = progress.epoch
    keep_lines(path, lambda step, epoch: epoch <= done or (epoch < done + 1 and step <= progress.step))


MAY_CHANGE = {
    "training.num_epochs", "training.early_stopping_patience", "training.validate_every", "training.best_by",
    "training.replace_start",
    "training.max_skipped_batches", "model.pretrained", "data.data_dir", "data.dataset_info", "data.twin_pairs",
    "data.data_root", "data.split_file", "data.strict",
    *(f"runtime.{name}" for name in (
        "device", "num_workers", "num_threads", "output_dir", "cache_dir", "keep_checkpoints",
        "gradient_checkpointing", "strategy", "save_every_steps", "save_every_minutes", "max_hours",
    )),
}  # fmt: skip
"""Keys in which a resumed run may differ: where things lie, how the computer is used, how long training goes on."""


def refuse_changes(stored: Mapping[str, Any], config: TwinVerificationConfig, path: Path) -> None:
    """ConfigError naming the keys in which a run would go on as another. Keys it does not know had their default, and
    values are compared in the form that a configuration gives them."""
    given = config.model_dump(mode="json")
    with contextlib.suppress(ConfigError):  # of another release, with keys of its own: as it was written
        stored = TwinVerificationConfig.from_dict(stored).model_dump(mode="json")
    defaults = TwinVerificationConfig().model_dump(mode="json")
    changed = []
    for section in ("model", "training", "loss", "data", "runtime"):
        for name, value in given[section].items():
            before = stored[section].get(name, defaults[section][name])
            if f"{section}.{name}" not in MAY_CHANGE and before != value:
                changed.append(f"{section}.{name} ({before!r}, now {value!r})")
    if changed:
        raise ConfigError(f"{path}: was trained with another {', '.join(changed)}; resume with the same")


def no_space(error: Exception) -> str:
    """What a failed write says of itself, in one line."""
    return str(disk_full_error(error) if isinstance(error, OSError) else error).splitlines()[0]
