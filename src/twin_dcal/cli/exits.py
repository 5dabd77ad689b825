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
from twin_dcal.files import told_full, writing

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
    with interrupts_noted() as interrupts, _stdout_named():
        try:
            answered, code = _answered(command)
            _flush()
            if answered:
                raise answered
        except Answered:
            raise
        except BaseException as error:
            code = _told(KeyboardInterrupt() if interrupts else error)
            _give_up_unwritten()
        # Noted and swallowed, by a library or by a page that Ctrl-C ends: nobody may take the rest for an answer.
        return INTERRUPTED if interrupts else code


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
    """Standard output, which says that it is meant where there is no room for what is written to it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with writing("standard output"):
            return int(self._stream.write(text))

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
    _say("".join(traceback.format_exception(error)).rstrip())
    _say(
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


def _told(error: BaseException) -> int:
    """Say what an error means to the user. Returns its exit code."""
    if isinstance(error, TwinDcalError):
        return _mistake(_own_line(str(error)))
    if isinstance(error, KeyboardInterrupt):
        _say("interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return UNREAD
    if isinstance(error, OSError):  # a full disk, a folder that cannot be made: the message names it
        return _mistake(str(told_full(error)))
    if (variable := _wrong_variable(error)) is not None:
        value = os.environ[variable][:60]
        return _mistake(
            f"the environment has {variable}={value!r}, which a library cannot read; correct or unset it"
        )
    return internal(error)


_READS_VARIABLE = re.compile(r"(?:environ|getenv)[.\w]*[\[(]\s*[\"'](\w+)[\"']")


def _wrong_variable(error: BaseException) -> str | None:
    """The variable of the environment that a library failed to read as a number or a name, by the line that did it,
    mostly while it was imported. None for any other error, and for code of ours."""
    if not isinstance(error, ValueError):
        return None
    own = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120
    for frame in traceback.extract_tb(error.__traceback__):
        found = _READS_VARIABLE.search(frame.line or "")
        if found and found[1] in os.environ and not frame.filename.startswith(own):
            return found[1]
    return None


def _mistake(text: str) -> int:
    rank = os.environ.get("RANK", "0")
    _say(f"error: {text}" if rank == "0" else f"error on rank {rank}: {text}")
    return MISTAKE


def _own_line(text: str) -> str:
    """A DataLoader worker's error arrives with the worker's traceback around it; its last line is ours."""
    return text.strip().splitlines()[-1].partition(": ")[2] if text.startswith("Caught ") else text


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        print(text, file=sys.stderr, flush=True)


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
