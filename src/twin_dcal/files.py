"""Writing files so that a reader sees the old content or the new, never half of it, and only their owner sees them.

What this project writes is made from faces: files are 0600 and folders 0700, whatever the umask.
"""

import errno
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import IO

from .errors import ConfigError, TwinDcalError
from .names import written


class DiskFullError(OSError):
    """A write that failed for want of space, in one line that names what was written."""

    def __str__(self) -> str:
        where = written(self.filename)
        return f"{where}: cannot be written, the disk is full ({self.strerror}). Make room there and start again."


class FileTooLargeError(OSError):
    """A write that a limit on the size of files stopped (`ulimit -f`), in one line that names what was written."""

    def __str__(self) -> str:
        return f"{written(self.filename)}: cannot be written, a limit on the size of files is reached (ulimit -f)"


_FULL = (errno.ENOSPC, errno.EDQUOT)


def disk_full_error(error: OSError, place: object = None) -> OSError:
    """An error that names what was written in place of what the system said, if it is about space. Args: place: if it
    names none itself."""
    if isinstance(error, DiskFullError | FileTooLargeError) or error.errno not in (*_FULL, errno.EFBIG):
        return error
    unknown = f"what this command writes, or {tempfile.gettempdir()}"
    kind = FileTooLargeError if error.errno == errno.EFBIG else DiskFullError
    return kind(error.errno, os.strerror(error.errno), str(place or error.filename or unknown))


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Whatever in the block finds no space on the disk says so by naming `place`."""
    try:
        yield
    except OSError as error:
        told = disk_full_error(error, place)
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
    if path.exists() and (other := no_file(path.stat().st_mode)):
        raise ConfigError(f"{path}: {other}, which cannot be replaced by a file; name another one")
    with writing(path), _replacing(path) as file:
        yield file


_LONGEST = 255
"""Bytes of a file's name, on the file systems of Linux, macOS and Windows."""


def fitting(name: str, ending: str) -> str:
    """A file's name with an ending, cut and told apart by a digest where it would be too long."""
    if len(os.fsencode(name + ending)) <= _LONGEST:
        return name + ending
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    room = _LONGEST - len(os.fsencode(ending)) - len(digest) - 1
    return f"{os.fsencode(name)[:room].decode('utf-8', 'ignore')}-{digest}{ending}"


def _half_of(name: str) -> str:
    """What the names of half-written files of this one begin with."""
    return fitting(f".{name}", f".{'x' * 8}.tmp").removesuffix(f"{'x' * 8}.tmp")


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_half_of(path.name), suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; no for names that no file can have: too long, or with a NUL byte."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def no_file(mode: int) -> str | None:
    """What a path leads to instead of a file that ends, by its mode; None for such a file."""
    if stat.S_ISREG(mode):
        return None
    return "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"


def refuse_endless(path: Path, fault: type[TwinDcalError]) -> None:
    """Raise `fault` for a pipe or a device, which could be waited for without end; folders are left to the reader."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if (other := no_file(mode)) and not stat.S_ISDIR(mode):
        raise fault(f"{path}: {other}, not a file")


def refuse_own_input(output: str | Path, name: str, *inputs: str | Path | None) -> None:
    """ConfigError where an output would replace one of the files that it is made from.

    Args: name: of the option that names the output.
    """
    for path in inputs:
        if path is not None and is_file(path) and is_file(output) and Path(output).samefile(path):
            raise ConfigError(f"{name} {output}: this is {path}, which is read; name another file")


def open_own(path: Path, flags: int) -> int:
    """os.open of a file that is ours alone: made for the owner only, and never one that a link leads to, which somebody
    else may have put there. ConfigError for a link."""
    try:
        return os.open(path, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ConfigError(f"{path}: a link, which is not written through; delete it") from None


_HALF = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")
"""What `replacing` calls a file while it is written."""


def remove_half_written(folder: str | Path, name: str | None = None) -> None:
    """Delete what processes that were killed in `replacing` left in `folder` and below, or of `name` alone in it.

    Nobody else may be writing there (`locking.locked`).
    """
    paths = (
        Path(folder).rglob(".*.tmp") if name is None else Path(folder).glob(f"{escape(_half_of(name))}*.tmp")
    )
    for path in paths:
        if _HALF.fullmatch(path.name):
            path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8; names that are none appear in it as `names.written` has them, in JSON too."""
    with replacing(path) as file:
        file.write(written(text).encode())


UNFINISHED = ".unfinished"
"""The folder of notes in a set of pictures that dcal-synth is making, or was stopped at."""


def unfinished_message(folder: str | Path) -> str:
    """What readers say of such a set."""
    return f"{folder} holds an unfinished set. Finish it with dcal-synth … --resume."


def make_folder(path: str | Path) -> Path:
    """Make a folder and its missing parents, for the owner only. One that is there keeps its mode."""
    path = Path(path)
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise ConfigError(f"{place}: is a file; name a folder")
            break
    with writing(path), owner_only():
        path.mkdir(parents=True, exist_ok=True)
    return path


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
