"""Calls with hostile files, one after another in a child process: how each ended, and the memory that it took.

The kernel keeps the largest resident size of a process, and resets it when asked, so the figure of each call is exact.
Address space is limited too: memory that is only asked for, and never touched, shows as a failed call.
"""

import os
import re
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from twin_dcal.errors import TwinDcalError

DEADLINE = 60
"""Seconds of a call."""
ROOM = 2**30
"""Bytes of address space that a call may ask for beside twice its file."""
LONGEST = 700
"""Letters of a line."""

_OUT_OF_MEMORY = re.compile(
    r"this machine's memory|allocate memory|bad.?alloc|Cannot allocate|MemoryError", re.I
)


@dataclass(frozen=True)
class Case:
    """A file to be read. made: gives its bytes, in the child. name: what it is called."""

    kind: str
    name: str
    made: Callable[[], bytes]


@dataclass(frozen=True)
class Seen:
    """How a call ended: "refused" in one line, "accepted", or anything else in words. peak: bytes it took at most,
    beside what was there before; size: of the file."""

    outcome: str
    told: str
    peak: int
    size: int


def watched(cases: Sequence[Case], call: Callable[[Path], str | None]) -> Iterator[Seen]:
    """Call with each file in turn. Args: call: returns None where what it found is right, else what is wrong."""
    context, start = get_context("fork"), 0
    while start < len(cases):
        mine, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_serve, args=(cases[start:], call, theirs))
        child.start()
        theirs.close()
        try:
            while start < len(cases):
                yield mine.recv()
                start += 1
        except EOFError:
            child.join()
            ended = f"the process ended with {child.exitcode}" + (
                "" if child.exitcode != -signal.SIGALRM else ", too slow"
            )
            yield Seen(ended, cases[start].name, 0, 0)
            start += 1
        child.join()


def _serve(cases: Sequence[Case], call: Callable[[Path], str | None], pipe: Any) -> None:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        os.chdir(folder)
        os.dup2(errors.fileno(), 2)
        sys.addaudithook(_note_asking)
        for case in cases:
            try:
                content = case.made()
            except Exception:  # a fault of the mutation, which says nothing about a reader
                pipe.send(Seen("not made", traceback.format_exc()[-1500:], 0, 0))
                continue
            path = Path(case.name)
            path.write_bytes(content)
            errors.truncate(0)
            pipe.send(_watch(call, path, len(content), errors.fileno()))


_asked: list[str] = []


def _note_asking(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo"):
        _asked.append(f"{event} {arguments[-1] if event == 'socket.connect' else arguments[0]}")


def _watch(call: Callable[[Path], str | None], path: Path, size: int, errors: int) -> Seen:
    before = _forget_peak()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + 2 * size + ROOM, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    try:
        outcome, told = _ended(call, path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    peak = _status("VmHWM") - before
    sys.stderr.flush()
    written = os.pread(errors, 500, 0).decode(errors="replace")
    if _asked:
        outcome, told = "asked the network", _asked[0]
        _asked.clear()
    elif written:
        outcome, told = "wrote to stderr", written
    elif _OUT_OF_MEMORY.search(told):
        outcome = "asked for too much memory"
    return Seen(outcome, told, peak, size)


def _ended(call: Callable[[Path], str | None], path: Path) -> tuple[str, str]:
    try:
        wrong = call(path)
    except TwinDcalError as error:
        told = str(error)
        is_line = "\n" not in told and len(told) <= LONGEST
        return ("refused" if is_line else "not one line"), told
    except BaseException:
        return "traceback", traceback.format_exc()[-1500:]
    return ("accepted", "") if wrong is None else ("wrong", wrong)


def _forget_peak() -> int:
    """Bytes resident now, from which the largest size counts again."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise KeyError(name)
