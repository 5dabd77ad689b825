"""Where a run's figures go. One small interface; further trackers are further classes behind it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from torch.utils.tensorboard import SummaryWriter


class Tracker(Protocol):
    def log(self, figures: Mapping[str, float], *, step: int, epoch: float) -> None:
        """Record scalar figures at an optimizer step."""

    def close(self) -> None: ...


class JsonLines:
    """`metrics.jsonl`: one JSON object a line, flushed at once; what every other tracker missed is here."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def log(self, figures: Mapping[str, float], *, step: int, epoch: float) -> None:
        self._file.write(json.dumps({"step": step, "epoch": epoch, **figures}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Event files for ``tensorboard --logdir``."""

    def __init__(self, folder: Path) -> None:
        self._writer = SummaryWriter(str(folder))

    def log(self, figures: Mapping[str, float], *, step: int, epoch: float) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.add_scalar("epoch", epoch, step)

    def close(self) -> None:
        self._writer.close()


class Trackers:
    """Several trackers as one."""

    def __init__(self, *trackers: Tracker) -> None:
        self._trackers = trackers

    def log(self, figures: Mapping[str, float], *, step: int, epoch: float) -> None:
        for tracker in self._trackers:
            tracker.log(figures, step=step, epoch=epoch)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.close()
