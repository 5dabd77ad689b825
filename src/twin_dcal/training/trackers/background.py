"""A tracker that may be slow, down or broken, kept away from training."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from .interface import Outcome, Tracker
from .shared import one_line

logger = logging.getLogger(__name__)


class OutsideTracker(Tracker, Protocol):
    """A tracker for `Background`. Any call may raise, and is then made again: each must bear being repeated."""

    def sample(self) -> None:
        """Record the state of the machine; called between figures, every `Patience.sample_s`."""


@dataclass(frozen=True)
class Patience:
    """Seconds. After `retry_s` of failing, a tracker is dropped. At the end of a run it has `finish_s` to take what
    a finished run left, or `stop_s` if the run was stopped or failed, and `last_s` of failing in either case."""

    retry_s: float = 600
    finish_s: float = 600
    stop_s: float = 10
    last_s: float = 20
    sample_s: float = 15
    longest_pause_s: float = 30


Call = Callable[[OutsideTracker], None]


class Background:
    """Makes a tracker's calls in order from a thread of its own; none of the methods here waits but `close`.

    `start` makes the tracker, in the thread as well, since its import and its first answer may take long. A call
    that fails is made again after 1, 2, 4, … s. What a dropped tracker missed is in metrics.jsonl.
    """

    def __init__(
        self, name: str, start: Callable[[], OutsideTracker], patience: Patience | None = None
    ) -> None:
        self.name, self.patience = name, patience or Patience()
        self._start = start
        self._tracker: OutsideTracker | None = None
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._given_up, self._closing = threading.Event(), threading.Event()
        self._closed_at: float | None = None
        self._thread = threading.Thread(target=self._work, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def log(self, figures: Mapping[str, float], *, step: int, epoch: float) -> None:
        kept = dict(figures)
        self._put(lambda tracker: tracker.log(kept, step=step, epoch=epoch))

    def close(self, outcome: Outcome = "failed") -> None:
        """Wait, within limits, until all calls were made. The thread of a tracker that hangs is left behind."""
        if self._given_up.is_set():
            return
        self._put(lambda tracker: tracker.close(outcome))
        self._calls.put(None)
        self._closed_at = time.monotonic()
        self._closing.set()
        self._thread.join(self.patience.finish_s if outcome == "finished" else self.patience.stop_s)
        if self._thread.is_alive():
            self._given_up.set()
            logger.warning(
                "%s took too long at the end of the run; what it missed is in metrics.jsonl", self.name
            )

    def _put(self, call: Call) -> None:
        if not self._given_up.is_set():
            self._calls.put(call)

    def _work(self) -> None:
        next_sample = time.monotonic()
        while True:
            try:
                call = self._calls.get(timeout=max(0.0, next_sample - time.monotonic()))
            except queue.Empty:
                next_sample = time.monotonic() + self.patience.sample_s
                call = _sample
            if call is None or not self._make(call):
                return

    def _make(self, call: Call) -> bool:
        """Make one call, again and again while patience lasts. False: the tracker is dropped."""
        failing_since, pause = None, 1.0
        while not self._given_up.is_set():
            try:
                if self._tracker is None:
                    self._tracker = self._start()
                call(self._tracker)
            except Exception as error:  # whatever it is, training goes on
                now, reason = time.monotonic(), one_line(error)
                if failing_since is None:
                    failing_since = now
                    logger.warning("%s fails and is tried again; training goes on (%s)", self.name, reason)
                if now >= self._deadline(failing_since):
                    self._given_up.set()
                    text = "%s is dropped after failing for %.0f s; what it missed is in metrics.jsonl (%s)"
                    logger.warning(text, self.name, now - failing_since, reason)
                    return False
                self._pause(pause)
                pause = min(2 * pause, self.patience.longest_pause_s)
            else:
                if failing_since is not None:
                    logger.info("%s answers again", self.name)
                return True
        return False

    def _deadline(self, failing_since: float) -> float:
        deadline = failing_since + self.patience.retry_s
        if self._closed_at is not None:
            deadline = min(deadline, max(failing_since, self._closed_at) + self.patience.last_s)
        return deadline

    def _pause(self, seconds: float) -> None:
        """Wait; at the end of a run, when somebody waits for us, a second at most."""
        if not self._closing.wait(seconds):
            return
        time.sleep(min(seconds, 1.0))


def _sample(tracker: OutsideTracker) -> None:
    tracker.sample()
