"""What a run says on the terminal: rates, losses, and the share of time spent waiting for data."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


class Clock:
    """Seconds since it was made, and those spent waiting for data."""

    def __init__(self) -> None:
        self._began, self.waited = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def waiting(self, loader: Iterable[Any]) -> Iterator[Any]:
        asked = time.monotonic()
        for batch in loader:
            self.waited += time.monotonic() - asked
            yield batch
            asked = time.monotonic()


NUM_NAMED = 8
"""Images named of a batch whose loss is not finite."""


def images_line(paths: Sequence[Path], index: Sequence[int]) -> str:
    names = [str(paths[place]) for place in index[:NUM_NAMED]]
    rest = f" and {len(index) - len(names)} more" if len(index) > len(names) else ""
    return ", ".join(names) + rest


def losses_line(losses: Mapping[str, float], rate: float) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items()) + f"  {rate:.1f} images/s"


def figures_line(figures: Mapping[str, float]) -> str:
    shown = [
        f"{name.partition('/')[2]} {value:.4g}"
        for name, value in figures.items()
        if not name.startswith(("train/w_", "train/learning"))
    ]
    return "  ".join(shown)
