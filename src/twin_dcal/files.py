"""Writing files so that a reader sees the old content or the new, never half of it, and only their owner sees them.

What this project writes is made from faces: files are 0600 and folders 0700, whatever the umask.
"""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import IO

from .names import written


class DiskFullError(OSError):
    """A write that failed for want of space, in one line that names what was written."""

    def __str__(self) -> str:
        where = written(self.filename)
        return f"{where}: cannot be written, the disk is full ({self.strerror}). Make room there and start again."


_FULL = (errno.ENOSPC, errno.EDQUOT)


def told_full(error: OSError, place: object = None) -> OSError:
    """A DiskFullError in place of what the system said, if it is about space. Args: place: if it names none itself."""
    if isinstance(error, DiskFullError) or error.errno is None or error.errno not in _FULL:
        return error
    unknown = f"what this command writes, or {tempfile.gettempdir()}"
    return DiskFullError(error.errno, os.strerror(error.errno), str(place or error.filename or unknown))


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Whatever in the block finds no space on the disk says so by naming `place`."""
    try:
        yield
    except OSError as error:
        told = told_full(error, place)
        if told is error:
            raise
        raise told from error


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file that takes `path`'s place when the block ends without an error.

    Written beside it (same file system), flushed to the disk, then renamed. Readable by the owner only; so is its
    folder if it is made here.
    """
    path = Path(path)
    make_folder(path.parent)
    with writing(path), _replacing(path) as file:
        yield file


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


_HALF = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")
"""What `replacing` calls a file while it is written."""


def remove_half_written(folder: str | Path, name: str | None = None) -> None:
    """Delete what processes that were killed in `replacing` left in `folder` and below, or of `name` alone in it.

    Nobody else may be writing there (`locking.locked`).
    """
    paths = Path(folder).rglob(".*.tmp") if name is None else Path(folder).glob(f".{escape(name)}*.tmp")
    for path in paths:
        if _HALF.fullmatch(path.name):
            path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8; names that are none appear in it as `names.written` has them, in JSON too."""
    with replacing(path) as file:
        file.write(written(text).encode())


UNFINISHED = ".unfinished"
"""The folder of notes in a set of pictures that dcal-synth is making, or was stopped at."""


def told_unfinished(folder: str | Path) -> str:
    """What readers say of such a set."""
    return f"{folder} holds an unfinished set. Finish it with dcal-synth … --resume."


def make_folder(path: str | Path) -> Path:
    """Make a folder and its missing parents, for the owner only. One that is there keeps its mode."""
    with writing(path), owner_only():
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


def make_private(folder: str | Path) -> None:
    """Take every right of others from `folder` and all in it: for what a library wrote with modes of its own."""
    for path in [Path(folder), *Path(folder).rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)


@contextmanager
def owner_only() -> Iterator[None]:
    """The whole process's umask at 077 inside the block, so that libraries and children follow too."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
