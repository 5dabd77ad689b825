"""One process at a time for what an output folder holds.

A lock file names its owner, for people to read. What decides is the kernel's record lock on it, which ends with its
process however that ends, is not inherited by workers, and reaches over network file systems; where a file system
has none, the named owner decides.
"""

import errno
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .files import make_folder, open_own, remove_half_written, writing

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: dict[Path, tuple[int, int]] = {}
"""Process and thread that hold a lock file: a record lock alone keeps out neither threads nor, once forked, children's
belief that it is theirs."""
_held_lock = threading.Lock()


@contextmanager
def locked(
    path: str | Path, doing: str, option: str = "--output_dir", guarded: str | Path | None = None
) -> Iterator[None]:
    """Hold the lock file `path` for the block; entering it again in the same thread is allowed.

    Args: doing: what its owner does, for the message, such as "trains into runs/mine". option: where to name another
    place. guarded: the folder or file that is written, by default the lock file's folder: what a killed owner had
    half written is deleted there. The lock file is removed afterwards, and so are folders that were made for it and
    hold nothing else. ConfigError, naming process and host, while another process or thread holds it.
    """
    place = Path(path).absolute()
    own = (os.getpid(), threading.get_ident())
    with _held_lock:
        holder = _held.get(place)
        if holder is not None and holder[0] == own[0] and holder[1] != own[1]:
            raise _refusal(_about_self(), doing, option)
        if holder != own:
            handle, made = _acquire(place, doing, option, Path(guarded or place.parent))
            _held[place] = own
    if holder == own:
        yield
        return
    try:
        yield
    finally:
        if os.getpid() == own[0]:
            _release(place, handle, made)


def _acquire(place: Path, doing: str, option: str, guarded: Path) -> tuple[int, list[Path]]:
    """An open, locked file that names this process, and the folders that were made for it, the innermost first."""
    made = [folder for folder in place.parents if not folder.exists()]
    make_folder(place.parent)
    while True:
        handle = open_own(place, os.O_RDWR)
        try:
            by_kernel = _lock(handle)
            before = _read_owner(handle)
            if by_kernel is False or (by_kernel is None and _may_live(before)):
                more = "" if by_kernel is False else f" If it is gone, delete {place}."
                raise _refusal(before, doing, option, more)
            if by_kernel and not _is_at(handle, place):  # its owner has just removed it: begin again
                os.close(handle)
                continue
            if before:
                told = "{pid} on {host}".format(**before)
                logger.info("%s: process %s ended without removing it; taken over", place, told)
                if guarded.is_dir():
                    remove_half_written(guarded)
                else:
                    remove_half_written(guarded.parent, guarded.name)
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            with writing(place):
                os.write(handle, json.dumps(_about_self()).encode() + b"\n")
        except BaseException:
            os.close(handle)
            raise
        return handle, made


def _lock(handle: int) -> bool | None:
    """Whether the kernel gives the lock; None where there are no such locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _release(place: Path, handle: int, made: list[Path]) -> None:
    with _held_lock:
        _held.pop(place, None)
        with suppress(OSError):  # the folder may be gone, with all in it
            place.unlink()
        os.close(handle)
        with suppress(OSError):  # something is in one of them
            for folder in made:
                folder.rmdir()


def _is_at(handle: int, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), place.stat())
    except FileNotFoundError:
        return False


def _about_self() -> dict[str, Any]:
    return {
        "pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def _read_owner(handle: int) -> dict[str, Any]:
    """Who the file says its owner is, {} if it says nothing that can be read."""
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        told = json.loads(os.read(handle, 4096))
        return {"pid": int(told["pid"]), "host": str(told["host"]), "since": str(told["since"])}
    except (ValueError, TypeError, KeyError, OverflowError):
        return {}


def _may_live(owner: dict[str, Any]) -> bool:
    """Whether an owner that only its file tells of may still be at work."""
    if not owner or (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname()):
        return False
    if owner["host"] != socket.gethostname() or sys.platform == "win32":
        return True
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


def _refusal(owner: dict[str, Any], doing: str, option: str, more: str = "") -> ConfigError:
    who = "process {pid} on {host}, since {since}".format(**owner) if owner else "another process"
    return ConfigError(f"{who}, {doing} already. Wait until it has ended, or name another {option}.{more}")
