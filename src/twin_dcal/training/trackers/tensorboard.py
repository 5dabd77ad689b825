"""Event files for ``tensorboard --logdir``."""

import itertools
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from twin_dcal.files import make_folder, owner_only

from .interface import Outcome, RunPlace
from .shared import read_note, write_note

NOTE_NAME = "tensorboard.json"


@dataclass(frozen=True)
class EventsFolder:
    """Where a run's event files go, and the folder to start TensorBoard on."""

    folder: Path
    home: Path


def events_folder(place: RunPlace) -> EventsFolder:
    """The folder of a run's event files: that of its own logs, or, where all runs share one, a folder there.

    The name of the latter is the time of the run's start; the run's note holds it for when the run goes on.
    """
    home = place.config.runtime.tensorboard_folder
    if place.config.runtime.output_dir is not None:
        return EventsFolder(home, home)
    name = read_note(place.folder / NOTE_NAME).get("run")
    if not name or Path(name).name != name:
        name = _unused(home)
        write_note(place.folder / NOTE_NAME, run=name)
    return EventsFolder(home / name, home)


def remove_events(place: RunPlace) -> None:
    """Delete the event files of the run that a folder holds, if there is one, and their folder if it is the run's alone
    and holds nothing else."""
    home = place.config.runtime.tensorboard_folder
    if place.config.runtime.output_dir is None:
        name = read_note(place.folder / NOTE_NAME).get("run")
        if not name or Path(name).name != name:
            return
        home /= name
    for path in home.glob("events.*"):
        path.unlink()
    if place.config.runtime.output_dir is None:
        with suppress(OSError):  # something else is in it
            home.rmdir()


def _unused(home: Path) -> str:
    now = time.strftime("%Y%m%d-%H%M%S")
    names = (now if number == 1 else f"{now}-{number}" for number in itertools.count(1))
    return next(name for name in names if not (home / name).exists())


class TensorBoard:
    """Scalars by optimizer step. Those after `step`, which a resumed run logs again, are hidden."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        make_folder(folder)
        with owner_only():  # the event file is made here
            self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def log(self, figures: Mapping[str, float], *, step: int, epoch: float) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.add_scalar("epoch", epoch, step)

    def close(self, outcome: Outcome = "failed") -> None:
        self._writer.close()
