"""Progress of what takes more than a moment: a bar with rate and time left on a terminal, a line now and then without.

All bars of the package are made here.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

logger = logging.getLogger(__name__)

BAR_AFTER_S = 1.0
"""What is done sooner shows no bar."""
LINE_EVERY_S = 30.0

Item = TypeVar("Item")


class ProgressBar:
    """How far a step is: a bar on stderr if that is a terminal, else a line in the log every 30 seconds.

    Args: total, done: how many there are and how many were done before; what: the step, "embedding"; unit: what is
    counted, in the plural, "images"; shown: False in processes that say nothing; after_s: when
    a bar appears; None is BAR_AFTER_S.
    """

    def __init__(
        self, total: int, what: str, unit: str, *, done: int = 0, shown: bool = True,
        after_s: float | None = None,
    ) -> None:  # fmt: skip
        columns = _columns()
        self._bar = tqdm(
            total=total, initial=done, desc=what, unit=f" {unit}", disable=None if shown else True, leave=False,
            delay=BAR_AFTER_S if after_s is None else after_s, ncols=columns, nrows=None if columns is None else 24,
            dynamic_ncols=columns is None,
            mininterval=0.2,
        )  # fmt: skip
        self._lines = shown and bool(self._bar.disable)
        self._what, self._unit, self._total, self._done, self._before = what, unit, total, done, done
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
        self._bar.update(count)
        if self._lines and (now := time.monotonic()) - self._told >= LINE_EVERY_S:
            self._told = now
            logger.info("%s", self._line(now - self._began))

    def note(self, text: str) -> None:
        """Words at the end of the bar."""
        self._bar.set_postfix_str(text, refresh=False)

    def _line(self, seconds: float) -> str:
        rate = (self._done - self._before) / seconds
        left = lasting((self._total - self._done) / rate) if rate else "an unknown time"
        return (
            f"{self._what}: {self._done:,} of {self._total:,} {self._unit}, {rate:.3g} a second, {left} left"
        )


def _columns() -> int | None:
    """A width for a terminal that says it has none, as those that programs open do; tqdm would draw nothing there."""
    try:
        return None if os.get_terminal_size(sys.stderr.fileno()).columns else 80
    except (AttributeError, OSError, ValueError):  # no terminal, or no file
        return None


def track(items: Iterable[Item], what: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """The items, with their progress. Args: total: of an iterable without a length."""
    if total is None:
        assert isinstance(items, Sized)
        total = len(items)
    with ProgressBar(total, what, unit) as progress:
        for item in items:
            yield item
            progress.update()


def lasting(seconds: float) -> str:
    """A duration as people say it: 45 s, 3 min, 1 h 20 min."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
