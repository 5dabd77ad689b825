"""When a run stops before its end: on a signal, or before its time is over."""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

logger = logging.getLogger(__name__)

Reason = Literal["signal", "time limit"]


class StopSignals:
    """Set by SIGINT and SIGTERM; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.received = False

    def __bool__(self) -> bool:
        return self.received

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handlers are in place during the block."""

        def ask(number: int, frame: object) -> None:
            if self.received and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.received = True
            logger.warning("stopping after this optimizer step (%s)", signal.Signals(number).name)

        if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
            yield
            return
        previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class TimeLimit:
    """Whether what comes next would still end before the limit, judged by the longest of each so far.

    Args: began: `time.time()` of the start that the limit counts from.
    """

    def __init__(self, max_hours: float | None, began: float) -> None:
        self.began = began
        self._seconds = None if max_hours is None else max_hours * 3600
        self._longest = {"step": 0.0, "save": 0.0, "validation": 0.0}

    def note(self, what: Literal["step", "save", "validation"], seconds: float) -> None:
        self._longest[what] = max(self._longest[what], seconds)

    def is_near(self, coming: Literal["step", "validation"]) -> bool:
        """Twice the time for what comes and the save after it, and 2 % of the limit (a minute at most), are kept."""
        if self._seconds is None:
            return False
        needed = 2 * (self._longest[coming] + self._longest["save"]) + min(60.0, 0.02 * self._seconds)
        return time.time() - self.began + needed >= self._seconds
