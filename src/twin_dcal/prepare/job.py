"""What is to be prepared, and what came of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from twin_dcal.errors import ConfigError

from . import judging
from .grouping import Sessions, Split
from .judging import Crop, Dropped
from .settings import PrepareConfig


@dataclass(frozen=True)
class Job:
    """What to do. source: a folder of person folders, or a JSON file. split: shares of train, val and test, or None.

    conflicts: what becomes of a picture under two people: "error" writes no description, "drop" leaves it out.
    review: keep crops that were left out for a look, and read decisions about them from review.csv.
    """

    source: Path
    output: Path
    config: PrepareConfig = field(default_factory=PrepareConfig)
    twin_pairs: str | None = None
    split: tuple[float, float, float] | None = None
    workers: int = 1
    review: bool = False
    conflicts: Literal["error", "drop"] = "error"
    seed: int = 0
    detector: str | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"--workers {self.workers} do nothing; use 1 or more")
        if self.split is not None and (
            min(self.split) < 0 or abs(sum(self.split) - 1) > 1e-6 or self.split[0] <= 0
        ):
            given = " ".join(f"{share:g}" for share in self.split)
            raise ConfigError(
                f"--split {given}: shares of train, val and test must be 0 or more and sum to 1"
            )


@dataclass(frozen=True, eq=False)
class Prepared:
    """What came of it. path_of: crops that were kept, and where they are; num_photos: files that were looked at."""

    job: Job
    num_photos: int
    path_of: Mapping[Crop, str]
    dropped: tuple[Dropped, ...]
    pairs: tuple[tuple[str, str], ...]
    sessions: Sessions
    split: Split
    notes: tuple[str, ...]

    @property
    def num_reasons(self) -> dict[str, int]:
        """How many were left out for each reason, in the order of `judging.REASONS`."""
        counted = Counter(out.reason for out in self.dropped)
        return {reason: counted[reason] for reason in judging.REASONS if counted[reason]}
