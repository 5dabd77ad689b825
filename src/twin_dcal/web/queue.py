"""Work off the event loop: a few threads, and a bound on requests and bytes that wait for them.

Work that nobody waits for any more is dropped. A thread cannot be ended from outside. So what runs
in one asks now and then whether it is still wanted (`stop_if_dropped`), and no thread keeps the process from ending.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from twin_dcal.plural import plural

from .access import Refusal
from .uploads import Refused

T = TypeVar("T")
RETRY_SECONDS = 2
_CLOSING = "the page is being closed"
_END_SECONDS = 0.5


class Dropped(Exception):
    """Raised in a job that nobody waits for any more."""


class ClientLeft(Exception):
    """The client of a request has closed its connection: there is nobody to answer."""


class _Job:
    """A function to run in a thread. Once dropped it is not begun, and what it holds is let go."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function: Callable[[], Any] | None = function
        self.future: Future[Any] = Future()
        self.is_dropped = False

    def drop(self) -> None:
        self.is_dropped = True
        self.function = None
        self.future.cancel()

    def run(self) -> None:
        function = self.function
        if function is None or not self.future.set_running_or_notify_cancel():
            return
        self.function = None
        _here.job = self
        try:
            self.future.set_result(function())
        except BaseException as error:
            self.future.set_exception(error)
        finally:
            _here.job = None


_here = threading.local()


def stop_if_dropped() -> None:
    """Dropped, in a job whose client has left or whose page is to end. Nothing in any other thread."""
    job = getattr(_here, "job", None)
    if job is not None and job.is_dropped:
        raise Dropped


class BoundedQueue:
    """Runs functions in `workers` threads; admits so many requests, and bytes of theirs, at a time.

    Belongs to one event loop, so that counting needs no lock.
    """

    def __init__(self, workers: int, max_requests: int, max_bytes: int) -> None:
        self._max_requests, self._max_bytes = max_requests, max_bytes
        self._waiting: deque[_Job] = deque()
        self._running: set[_Job] = set()
        self._changed = threading.Condition()
        self._is_ending = False
        self._ended: asyncio.Event | None = None
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self.requests = 0
        self.bytes = 0

    @asynccontextmanager
    async def admitted(self, num_bytes: int) -> AsyncIterator[None]:
        """Room for a request of that size while the block lasts. Refused (429) where there is none."""
        if self.requests >= self._max_requests or (
            self.requests and self.bytes + num_bytes > self._max_bytes
        ):
            are = plural(self.requests, "request is", "requests are")
            reason = f"{are} being answered or waiting; ask again in {RETRY_SECONDS} seconds"
            raise Refused(Refusal(429, reason, {"Retry-After": str(RETRY_SECONDS)}))
        self.requests += 1
        self.bytes += num_bytes
        try:
            yield
        finally:
            self.requests -= 1
            self.bytes -= num_bytes

    async def run(self, function: Callable[[], T], gone: Awaitable[Any] | None = None) -> T:
        """The function's result, from a thread, in turn.

        Args: gone: ends when nobody waits for the result any more. ClientLeft then, and Refused (503) when the queue is
        stopped; the job is dropped.
        """
        job = _Job(function)
        with self._changed:
            if self._is_ending:
                if isinstance(gone, Coroutine):
                    gone.close()
                raise Refused.because(503, _CLOSING)
            self._waiting.append(job)
            self._changed.notify()
        ending = self._begin()
        done = asyncio.wrap_future(job.future)
        left = None if gone is None else asyncio.ensure_future(gone)
        ended = asyncio.ensure_future(ending.wait())
        try:
            await asyncio.wait(
                {done, ended} | ({left} if left else set()), return_when=asyncio.FIRST_COMPLETED
            )
            if done.done() and not done.cancelled():
                return done.result()  # type: ignore[no-any-return]
            if self._is_ending:
                raise Refused.because(503, _CLOSING)
            raise ClientLeft
        finally:
            ended.cancel()
            if left:
                left.cancel()
            self._drop(job)
            done.cancel()

    def stop(self) -> None:
        """Drop every job, and refuse new ones. Called in the event loop."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
            jobs = [*self._waiting, *self._running]
        for job in jobs:
            self._drop(job)
        if self._ended is not None:
            self._ended.set()

    def close(self) -> bool:
        """Stop, and wait a moment for what runs. Returns whether all threads have ended; none keeps the process."""
        self.stop()
        until = time.monotonic() + _END_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _begin(self) -> asyncio.Event:
        """Start the threads, with the first job; what tells its loop that the queue was stopped."""
        if self._ended is None:
            self._ended = asyncio.Event()
            for number in range(self._workers):
                name = f"twin-dcal-{number}"
                self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
                self._threads[-1].start()
        return self._ended

    def _drop(self, job: _Job) -> None:
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
        job.drop()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job.run()
            with self._changed:
                self._running.discard(job)

    def _next(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_ending)
            if self._is_ending:
                return None
            job = self._waiting.popleft()
            self._running.add(job)
            return job
