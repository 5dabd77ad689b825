"""How a command ends: one table of exit codes, and what is said on stderr. Only the standard library is imported here.

`dcal-verify` answers with its code, so whatever is no answer must have another one (docs/commands.md).
"""

import contextlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from twin_dcal.errors import TwinDcalError
from twin_dcal.files import disk_full_error, writing
from twin_dcal.names import printable

DONE = 0
DIFFERENT = 1
"""`dcal-verify --img1 --img2` alone: different people."""
MISTAKE = 2
"""Of the user, or of a file or the machine: one line says which."""
INTERNAL = 70
"""A fault of this program, as in BSD's sysexits.h (EX_SOFTWARE)."""
INTERRUPTED = 130
UNREAD = 141
"""Whoever read the output went away, as a shell counts SIGPIPE."""


class Answered(SystemExit):
    """What argparse ends with (--help, a wrong option), told from a library that calls sys.exit."""


def ended(command: Callable[[], int]) -> int:
    """Run a command's body and give its exit code, whatever happens in it. Only `Answered` passes."""
    _fill_streams()
    with interrupts_noted() as interrupts, _stdout_named():
        try:
            answered, code = _answered(command)
            _flush()
            if answered:
                raise answered
        except Answered:
            raise
        except BaseException as error:
            code = told(KeyboardInterrupt() if interrupts else error)
            _give_up_unwritten()
        # Noted and swallowed, by a library or by a page that Ctrl-C ends: nobody may take the rest for an answer.
        return INTERRUPTED if interrupts else code


def _fill_streams() -> None:
    """Standard streams that were closed lead nowhere: a file that is opened next would take their place, and get what
    libraries print."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: PTH123, SIM115


@contextlib.contextmanager
def _stdout_named() -> Iterator[None]:
    if sys.stdout is None:  # nothing is printed then
        yield
        return
    named: Any = _Named(sys.stdout)
    with contextlib.redirect_stdout(named):
        yield


def _answered(command: Callable[[], int]) -> tuple[Answered | None, int]:
    try:
        return None, command()
    except Answered as end:
        return end, DONE


class _Named:
    """Standard output, which says that it is meant where there is no room for what is written to it, and passes on
    nothing that a terminal obeys: names of files and texts in them come from others."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with writing("standard output"):
            self._stream.write(printable(text, "\n\t"))
        return len(text)

    def flush(self) -> None:
        with writing("standard output"):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def interrupts_noted() -> Iterator[list[int]]:
    """Ctrl-C raises KeyboardInterrupt in the block, and is noted: an import that it breaks off raises what it likes.

    Leaves alone a handler of somebody else, and one that ignores Ctrl-C (a job in the background).
    """
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    ours = before is signal.default_int_handler or hasattr(before, "of_start")
    if not (is_main and ours):
        yield came
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


def internal(error: BaseException) -> int:
    """Tell of a fault of ours, with its traceback, and that it decides nothing."""
    for line in "".join(traceback.format_exception(error)).rstrip().split("\n"):
        tell(line)
    tell(
        f"internal error: a fault of twin_dcal, not a result; please report the lines above (exit code {INTERNAL})"
    )
    return INTERNAL


def end_at_once(code: int) -> NoReturn:
    """End the process without ending Python first, which takes a second and can crash a thread in a library."""
    _give_up_unwritten()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


def leave_at_once(number: int) -> NoReturn:
    """End after a signal, from any thread. Nothing is flushed, which could wait for who holds the terminal."""
    os._exit(128 + number)


def told(error: BaseException) -> int:
    """Say what an error means to the user. Returns its exit code."""
    if isinstance(error, TwinDcalError):
        return _mistake(_own_line(error))
    if isinstance(error, KeyboardInterrupt):
        tell("interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return UNREAD
    if isinstance(error, OSError):  # a full disk, a folder that cannot be made: the message names it
        return _mistake(str(disk_full_error(error)))
    if (limit := _limit(error)) is not None:
        return _mistake(f"this machine, or a limit set for it, does not allow it: {limit}")
    if (variable := _wrong_variable(error)) is not None:
        value = os.environ[variable][:60]
        return _mistake(
            f"the environment has {variable}={value!r}, which a library cannot read; correct or unset it"
        )
    return internal(error)


_LIMITS = re.compile(
    r"failed to map segment from shared object|unable to (?:resize|open|mmap|allocate|write)[^\n]* (?:file|memory)"
    r"|can't start new thread",
    re.IGNORECASE,
)


def _limit(error: BaseException) -> str | None:
    """What a library found no room for (address space, shared memory, threads), in its words; None for other errors."""
    if not isinstance(error, ImportError | RuntimeError):
        return None
    lines = [line for line in str(error).splitlines() if _LIMITS.search(line)]
    return lines[-1].strip() if lines else None


_READS_VARIABLE = re.compile(r"(?:environ|getenv)[.\w]*[\[(]\s*[\"'](\w+)[\"']")


def _wrong_variable(error: BaseException) -> str | None:
    """The variable of the environment that a library failed to read as a number or a name, by the line that did it,
    mostly while it was imported. None for any other error, and for code of ours."""
    if not isinstance(error, ValueError):
        return None
    own = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120
    frames = traceback.extract_tb(error.__traceback__)
    for frame in frames:
        found = _READS_VARIABLE.search(frame.line or "")
        if found and found[1] in os.environ and not frame.filename.startswith(own):
            return found[1]
    if not frames or frames[-1].filename.startswith(own):
        return None
    # A library that reads its variables elsewhere: its message has the name of one, or the value of one of its own.
    told, library = str(error), re.split(r"[/\\]site-packages[/\\]", frames[-1].filename)[-1]
    library = re.split(r"[/\\.]", library)[0].upper() + "_"
    for name, value in os.environ.items():
        if "_" in name and re.search(rf"\b{re.escape(name)}\b", told):
            return name
        if name.startswith(library) and value and repr(value) in told:
            return name
    return None


def _mistake(text: str) -> int:
    rank = os.environ.get("RANK", "0")
    tell(f"error: {text}" if rank == "0" else f"error on rank {rank}: {text}")
    return MISTAKE


def _own_line(error: TwinDcalError) -> str:
    """A DataLoader worker's error arrives with the worker's traceback around it; its last line is ours."""
    given = str(error.args[0]) if error.args else ""
    return given.strip().split("\n")[-1].partition(": ")[2] if given.startswith("Caught ") else str(error)


def tell(text: str) -> None:
    """Say something on stderr, in one line."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        print(printable(text), file=sys.stderr, flush=True)


def _flush() -> None:
    """Write out what was printed. OSError where it cannot be."""
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def _give_up_unwritten() -> None:
    """Python would try again as it ends, and exit with 120."""
    try:
        _flush()
    except OSError:
        with contextlib.suppress(OSError):
            sys.stdout.close()
