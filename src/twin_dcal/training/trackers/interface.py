"""What every tracker is, and several of them as one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from twin_dcal.config import TwinVerificationConfig

Outcome = Literal["finished", "stopped", "failed"]
"""How a run ended: to its end, asked to stop (it may go on later), or by an error."""


@dataclass(frozen=True)
class RunPlace:
    """The run a tracker follows. `step`: the optimizer step it goes on from, 0 for a new run."""

    config: TwinVerificationConfig
    folder: Path
    step: int = 0


class Tracker(Protocol):
    def log(self, figures: Mapping[str, float], *, step: int, epoch: float) -> None:
        """Record scalar figures at an optimizer step."""

    def close(self, outcome: Outcome = "failed") -> None:
        """Record how the run ended; a finished one may hand over what lies in its folder."""


class Trackers:
    """Several trackers as one."""

    def __init__(self, *trackers: Tracker) -> None:
        self._trackers = trackers

    def log(self, figures: Mapping[str, float], *, step: int, epoch: float) -> None:
        for tracker in self._trackers:
            tracker.log(figures, step=step, epoch=epoch)

    def close(self, outcome: Outcome = "failed") -> None:
        for tracker in self._trackers:
            tracker.close(outcome)
