"""Work off the event loop: a few threads, and a bound on requests and bytes that wait for them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from .access import Refusal
from .uploads import Refused

T = TypeVar("T")
RETRY_SECONDS = 2


class BoundedQueue:
    """Runs functions in `workers` threads; admits so many requests, and bytes of theirs, at a time.

    Belongs to one event loop, so that counting needs no lock.
    """

    def __init__(self, workers: int, max_requests: int, max_bytes: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="twin-dcal")
        self._max_requests, self._max_bytes = max_requests, max_bytes
        self.requests = 0
        self.bytes = 0

    @asynccontextmanager
    async def admitted(self, num_bytes: int) -> AsyncIterator[None]:
        """Room for a request of that size while the block lasts. Refused (429) where there is none."""
        if self.requests >= self._max_requests or (
            self.requests and self.bytes + num_bytes > self._max_bytes
        ):
            reason = (
                f"{self.requests} requests are being answered or wait; ask again in {RETRY_SECONDS} seconds"
            )
            raise Refused(Refusal(429, reason, {"Retry-After": str(RETRY_SECONDS)}))
        self.requests += 1
        self.bytes += num_bytes
        try:
            yield
        finally:
            self.requests -= 1
            self.bytes -= num_bytes

    async def run(self, function: Callable[[], T]) -> T:
        """The function's result, from a thread, in turn."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
