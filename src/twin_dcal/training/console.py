"""What a run says on the terminal: rates, losses, and the share of time spent waiting for data."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_dcal.data.faceset import FaceSet
from twin_dcal.progress import lasting


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


class EpochTable:
    """A run's epochs as lines of one table, a header first.

    Args: kinds: the impostors that validation has, none where nothing is validated.
    """

    def __init__(self, num_epochs: int, branches: Sequence[str], kinds: Sequence[str]) -> None:
        self._num_epochs = num_epochs
        losses = [("train/loss", "loss"), *((f"train/{name}", name) for name in branches)]
        self._columns: list[tuple[str, str, Callable[[float], str]]] = [
            *((name, title, _three) for name, title in losses),
            ("train/images_per_second", "images/s", _three),
            ("train/waiting_share", "waiting", _percent),
        ]
        for kind in kinds:
            self._columns += [
                (f"val/{kind}_eer", f"{kind} EER", _percent),
                (f"val/{kind}_auc", "AUC", _three),
            ]

    def header(self) -> str:
        return self._row("epoch", [title for _, title, _ in self._columns], "left")

    def line(
        self, epoch: int, figures: Mapping[str, float], left_s: float | None = None, note: str = ""
    ) -> str:
        """Args: epoch: 0 is before training; left_s: seconds to the end; note: what follows the row."""
        cells = [form(figures[name]) if name in figures else "" for name, _, form in self._columns]
        name = f"epoch {epoch:>{len(str(self._num_epochs))}}/{self._num_epochs}" if epoch else "before"
        row = self._row(name, cells, "" if left_s is None else lasting(left_s))
        more = [f"{_OTHERS[key]} {value:,.0f}" for key, value in figures.items() if key in _OTHERS]
        return "  ".join([row, *more, *([note] if note else [])]).rstrip()

    def _row(self, first: str, cells: Sequence[str], last: str) -> str:
        wide = len(f"epoch {self._num_epochs}/{self._num_epochs}")
        columns = zip(cells, self._columns, strict=True)
        middle = [f"{cell:>{max(len(title), len(_WIDEST))}}" for cell, (_, title, _) in columns]
        return "  ".join([f"{first:<{wide}}", *middle, f"{last:>10}"])


def validated_kinds(val: FaceSet) -> tuple[str, ...]:
    """The kinds of impostors among validation people."""
    if not val.num_images:
        return ()
    if not val.has_twins:
        return ("all",)
    return ("twin", "unrelated") if val.num_families > 1 else ("twin",)


_WIDEST = "12.3 %"
_OTHERS = {"train/skipped_batches": "batches left out", "train/unreadable_images": "unreadable images"}


def best_note(kinds: Sequence[str], now: float, before: float | None) -> str:
    """Why a model becomes the best one. Args: kinds: the impostors whose mean EER counts; now, before: that EER."""
    name = f"{kinds[0]} EER" if len(kinds) == 1 else f"mean of {' and '.join(kinds)} EER"
    if before is None:
        return f"best model: {name} {_percent(now)}, the first"
    if now == before:
        return f"best model: {name} still {_percent(now)}, with a higher AUC"
    return f"best model: {name} {_percent(now)} after {_percent(before)}"


def format_figures(figures: Mapping[str, float]) -> str:
    """Validation figures of a model in words; empty for none."""
    kinds = [name.removesuffix("_eer") for name in figures if name.endswith("_eer")]
    told = [kind for kind in kinds if kind != "all" or kinds == ["all"]]
    return " · ".join(
        f"{kind} EER {_percent(figures[f'{kind}_eer'])}, AUC {_three(figures[f'{kind}_auc'])}"
        for kind in told
    )


def _three(value: float) -> str:
    """Three digits; more where they stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")


def _percent(share: float) -> str:
    return f"{_three(100 * share)} %"
