"""A Ray cluster to compute on: one that runs, or one of this machine alone that ends with the command.

Ray is imported here only.
"""

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from twin_dcal.errors import ConfigError
from twin_dcal.privacy import set_privacy_defaults

ANSWER_WITHIN_S = 5
_LEFT_WORD = Path("/tmp/ray/ray_current_cluster")
"""Where `ray start` writes the address of the head."""
_LONGEST_PLACE = 22
"""Ray's sockets lie deep below its folder, and Unix allows 107 bytes for their paths."""
_OBJECT_STORE_BYTES = 256 << 20
"""Parts wait there for a moment only."""

_SETTINGS = b"\x04"
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0\0\0\0\0"
"""How HTTP/2 begins (RFC 9113, 3.4), which a head speaks: Ray itself waits for minutes at a port of something else."""
_NOBODY = "http://127.0.0.1:9"


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """The module `ray`, connected for the block.

    Args: address: HOST:PORT of a cluster's head, or "auto": RAY_ADDRESS, else a cluster that this user has started on
    this machine, else one that is started here, listens on 127.0.0.1 alone, and is gone after the block. ConfigError,
    within seconds, where none is reached or Ray is not installed.
    """
    found = running() if address == "auto" else address
    if found is not None:
        _refuse_unreachable(found)
    set_privacy_defaults()
    with ExitStack() as stack:
        options = {"address": found} if found is not None else stack.enter_context(_of_this_machine())
        ray = _imported()
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # what matters arrives as exceptions
        stack.callback(ray.shutdown)
        with _own_sigterm(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own settings, which a user of ours does not make
            try:
                ray.init(log_to_driver=False, configure_logging=False, **options)
            except (ConnectionError, OSError, RuntimeError, ValueError, AssertionError) as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
                raise ConfigError(f"--ray {address}: Ray cannot be used here ({reason})") from error
        yield ray


def running() -> str | None:
    """The address of a cluster that "auto" means; None where one is to be started."""
    if (told := os.environ.get("RAY_ADDRESS", "auto")) not in ("", "auto"):
        return None if told == "local" else told
    try:
        if hasattr(os, "getuid") and _LEFT_WORD.stat().st_uid not in (0, os.getuid()):
            return None  # somebody else's, who would be sent the names of files and could answer with code
        found = _LEFT_WORD.read_text(encoding="utf-8").strip()
        _refuse_unreachable(found)
    except (OSError, ValueError, ConfigError):
        return None
    return found


def _refuse_unreachable(address: str) -> None:
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not (port.isascii() and port.isdigit()):
        raise ConfigError(
            f"--ray {address}: give auto, or HOST:PORT as `ray start --head` tells it on the head node"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_WITHIN_S) as link:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return
            link.sendall(_GREETING)
            kind = link.makefile("rb").read(9)[3:4]
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(
            f"--ray {address}: nothing answers there ({error}); is the head running, and this machine one of its nodes?"
        ) from None
    if kind != _SETTINGS:
        raise ConfigError(
            f"--ray {address}: what answers there is not Ray; give HOST:PORT of the cluster's head"
        )


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--ray needs Ray: pip install 'twin-dcal[ray]'") from error
    return ray


@contextmanager
def _of_this_machine() -> Iterator[dict[str, Any]]:
    """What a cluster of this machine alone is started with. Its folder is the owner's, and removed."""
    place = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="dcal-ray-", dir=place if len(place) <= _LONGEST_PLACE else "/tmp")
    given = {
        # Ray replaces 127.0.0.1 by an address that others reach, unless it is told that this is no cluster.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Its secret, else kept in the home folder.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _secret(),
        "TMPDIR": folder,  # what libraries of its workers leave there
        # One of its processes asks the metadata services of clouds, whatever its switches say: led to where nobody is.
        "http_proxy": _NOBODY,
        "https_proxy": _NOBODY,
        "no_proxy": "127.0.0.1,localhost",
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield {
            "address": "local", "num_cpus": _num_cpus(), "include_dashboard": False, "_temp_dir": folder,
            "_node_ip_address": "127.0.0.1", "object_store_memory": _OBJECT_STORE_BYTES,
        }  # fmt: skip
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _remove(folder)


@cache
def _secret() -> str:
    """One for the life of the process: Ray reads it once."""
    return secrets.token_hex(32)


def _num_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _remove(folder: str) -> None:
    """Processes that are just ending may still write there."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            return
        time.sleep(0.1)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray takes SIGTERM for itself, and would give it another exit code; its processes end with this one anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
