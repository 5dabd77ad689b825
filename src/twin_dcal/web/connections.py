"""Connections of the page: how many, how long they may be silent, and how they end. uvicorn is imported here.

uvicorn has no time limit for a request's head, and its `limit_concurrency` counts silent connections like any others,
which would shut everybody out. So its HTTP/1.1 protocol is extended here.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from types import FrameType, MappingProxyType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .access import ANSWER_HEADERS
from .queue import RETRY_SECONDS, BoundedQueue

HEAD_SECONDS = 10.0
"""For the head of a request, from the first moment of a connection or from the end of the answer before."""
STALL_SECONDS = 30.0
"""For a client that does not take its answer."""
MAX_CONNECTIONS = 256
_FEWEST = 8
_AT_ONCE = 16  # connections taken from the system in one go, before the first of them can be refused
_OTHER_FILES = 112  # those, and what else is open: the model, sockets, libraries
_WAITING_TO_BE_TAKEN = 256
_LINGER_SECONDS = 2.0
LATE_SECONDS = 1.6
"""After Ctrl+C: the steps of a quiet end, each bounded, take 1.5 s together on an idle machine."""
_MAX_LINGERING = 8
_NO_HTTP = "this is no HTTP request that can be read"


class Connection(H11Protocol):
    """One client. Where `most` are connected, the one that has been silent for longest makes room for a new one.

    Connections between requests go first, then those whose request has not come completely; if all others wait for an
    answer, the new one is refused (503). One that is silent for too long is closed in any case.
    """

    most = MAX_CONNECTIONS
    _since = 0.0
    _clock: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_request()
        if not self._has_room():
            self._refuse()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if not self.is_silent:
            self._stop_clocks()

    def send_400_response(self, msg: str) -> None:
        """For what is no HTTP: answered as everything else is, and the end of the connection.

        If it is the body of a request, whatever reads that sees its client leave.
        """
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self._end_with(400, "Bad Request", f"{_NO_HTTP}; the connection is closed")

    def _should_upgrade(self) -> bool:
        """No other protocol is spoken; the request is answered in this one (RFC 9110, 7.8)."""
        return False

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.is_silent:
            self._wait_for_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self._stall or self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stall()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clocks()
        self._stop_stall()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End at once, save where an answer is on its way to somebody who takes it."""
        if self._refused or self.transport.is_closing() or self.is_incomplete or self.flow.write_paused:
            self.transport.abort()
        else:
            super().shutdown()

    @property
    def is_silent(self) -> bool:
        """Whether no request is being received or answered; the head of one may be on its way."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_incomplete(self) -> bool:
        """Whether a request's body is on its way."""
        return not self.is_silent and self.cycle.more_body

    def _wait_for_request(self) -> None:
        """From now on a complete head must come in time, or what is left of the answer must be taken."""
        self._stop_clocks()
        self._since = self.loop.time()
        unsent = self.transport.get_write_buffer_size() > 0
        self._clock = self.loop.call_later(STALL_SECONDS if unsent else HEAD_SECONDS, self.transport.abort)

    def _has_room(self) -> bool:
        others = [other for other in self.connections if isinstance(other, Connection) and other is not self]
        if len([other for other in others if not other._is_ending]) < self.most:
            return True
        for group in ([o for o in others if o.is_silent], [o for o in others if o.is_incomplete]):
            staying = [other for other in group if not other._is_ending]
            if staying:
                min(staying, key=lambda other: other._since).transport.abort()
                return True
        return False

    @property
    def _is_ending(self) -> bool:
        return self._refused or (self.transport.is_closing() and not self.transport.get_write_buffer_size())

    def _refuse(self) -> None:
        reason = f"too many connections; ask again in {RETRY_SECONDS} seconds"
        self._end_with(503, "Service Unavailable", reason, {"Retry-After": str(RETRY_SECONDS)})

    def _end_with(
        self, status: int, phrase: str, reason: str, more: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Give the last answer. What the client sends is thrown away for a moment, else it would be lost with that."""
        lingering = sum(isinstance(other, Connection) and other._refused for other in self.connections)
        self._refused = True
        body = json.dumps({"detail": reason}).encode()
        headers = {
            "Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close",
            **more, **ANSWER_HEADERS,
        }  # fmt: skip
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self._stop_clocks()
        if lingering < _MAX_LINGERING and self.transport.can_write_eof():
            self.transport.write_eof()
            self._clock = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)
        else:
            self.transport.close()

    def _stop_clocks(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _stop_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


class PageServer(uvicorn.Server):
    """Serves an application of `create_app`, and drops its jobs as soon as it is to end."""

    def __init__(
        self, app: Any, most: int | None = None, late: Callable[[int], object] = lambda signal: None
    ) -> None:
        """Args: most: connections at a time; by default as many as open files allow, at most MAX_CONNECTIONS.
        late: called in a thread of its own, with the signal, if LATE_SECONDS after one to end the process is still
        there."""
        limit = most_connections() if most is None else most
        super().__init__(
            uvicorn.Config(
                app, http=type("Connection", (Connection,), {"most": limit}), access_log=False, log_config=None,
                server_header=False, ws="none", proxy_headers=False, backlog=_AT_ONCE, timeout_graceful_shutdown=1,
                port=0,
            )
        )  # fmt: skip
        self._jobs: BoundedQueue = app.state.jobs
        self._late = late

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        watch = threading.Timer(LATE_SECONDS, self._late, [sig])
        watch.daemon = True
        watch.start()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or []:
            listening.listen(_WAITING_TO_BE_TAKEN)  # asyncio has set what it takes at once for both

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._jobs.stop()
        await super().shutdown(sockets)


def most_connections() -> int:
    """How many connections the limit of open files leaves room for."""
    try:
        resource = import_module("resource")
    except ImportError:  # Windows
        return MAX_CONNECTIONS
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(_FEWEST, min(MAX_CONNECTIONS, int(allowed) - _OTHER_FILES))
