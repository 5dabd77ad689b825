"""Serving the page on this machine. FastAPI and uvicorn load on the first call only."""

import contextlib
import logging
import socket
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from twin_dcal.errors import ConfigError

from . import LOOPBACK, PORT
from .request_log import bounded_log

if TYPE_CHECKING:
    from twin_dcal.inference.engine import TwinInferenceEngine

    from .decision import Explains

logger = logging.getLogger(__name__)

_EVERYWHERE = ("0.0.0.0", "::")


def serve(
    engine: "TwinInferenceEngine", host: str | None = None, port: int = PORT, token: str | None = None, *,
    names: Iterable[str] = (), explains: "Explains | None" = None, workers: int = 1,
    late: Callable[[int], object] = lambda signal: None,
) -> bool:  # fmt: skip
    """Serve the page until Ctrl+C, which ends it within two seconds whatever it is at, but for a machine that is busy
    with other things.

    Args: host: an address to listen at, this machine only by default; any other needs a token.
        port: 0 takes a free one. late: called in another thread, with the signal, if LATE_SECONDS after Ctrl+C it has
        not ended.
        Everything else as in `create_app`.
    Returns: whether every pair that was being judged has come to an end. Else a thread is still at one; end the process
        with `os._exit` then, since ending Python under a thread in a library can crash.
    ConfigError: the `web` extra is missing, an address or port that cannot be had, a host without a token.
    """
    try:
        import_module("uvicorn")
        from .app import create_app
        from .connections import PageServer
    except ImportError as error:
        raise ConfigError(
            f"the page needs packages that are missing ({error.name}): pip install 'twin-dcal[web]'"
        ) from None
    host = LOOPBACK if host is None else host
    names = (*names, socket.gethostname()) if host in _EVERYWHERE else names
    app = create_app(engine, token=token, host=host, names=names, explains=explains, workers=workers)
    listening = _listen(host, port)
    address = f"http://{_shown(host)}:{listening.getsockname()[1]}/"
    logger.info("Page at %s%s  (Ctrl+C stops it)", address, f"#token={token}" if token else "")
    with contextlib.closing(listening), bounded_log(), contextlib.suppress(KeyboardInterrupt):
        PageServer(app, late=late).run(sockets=[listening])
    return bool(app.state.jobs_ended)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ConfigError(f"port {port}: a number from 0 to 65535")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=256)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{host}:{port}: cannot listen there ({reason}); give another host or port"
        ) from None


def _shown(host: str) -> str:
    if host in _EVERYWHERE:
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
