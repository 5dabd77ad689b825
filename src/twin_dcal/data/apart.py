"""Decoders that cannot be trusted to end, or with what they are given, run in a process of their own with limits."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import BinaryIO, NoReturn

from twin_dcal.errors import CostlyImageError, ImageError

_REFUSED = 3
_OUT_OF_TIME = -int(getattr(signal, "SIGXCPU", 0))


def decode_apart(
    child: str, arguments: Sequence[object], name: object, *, cpu_seconds: int, wall_seconds: float, advice: str,
    data: bytes | None = None, file: BinaryIO | None = None,
) -> bytes:  # fmt: skip
    """What Python code prints in a process of its own.

    Args: child: the code, which limits itself by `limit_cpu`; arguments: its texts, after the seconds; name: how
    messages call the input; cpu_seconds, wall_seconds: the latter where CPU time cannot be limited, and for a process
    that sleeps; advice: what to do with a file that takes longer; data or file: its standard input.
    ImageError, in one line, for what it refuses, where it ends in another way, and where it takes longer.
    """
    command = [sys.executable, "-P", "-c", child, str(cpu_seconds), *map(str, arguments)]
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    late = f"{name}: would take too long to decode (more than {cpu_seconds} s). {advice}"
    try:
        ended: subprocess.CompletedProcess[bytes]
        if file is None:
            ended = subprocess.run(command, input=data, capture_output=True, env=where, timeout=wall_seconds)
        else:
            ended = subprocess.run(command, stdin=file, capture_output=True, env=where, timeout=wall_seconds)
    except subprocess.TimeoutExpired:
        raise CostlyImageError(late) from None
    except OSError as error:
        raise ImageError(f"{name}: no process to decode it in ({error})") from None
    if ended.returncode == _REFUSED:
        raise ImageError(f"{name}: {ended.stderr.decode(errors='replace').strip().splitlines()[-1]}")
    if ended.returncode and ended.returncode == _OUT_OF_TIME:
        raise CostlyImageError(late)
    if ended.returncode:
        raise ImageError(
            f"{name}: truncated or damaged (its decoder ended with {ended.returncode}). Restore the file."
        )
    return ended.stdout


def limit_cpu() -> None:
    """Of the child: as many seconds of CPU time as its first argument says."""
    seconds = int(sys.argv[1])
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows
        resource = import_module("resource")
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def refuse(reason: str) -> NoReturn:
    """Of the child: end with a reason for the user."""
    sys.stderr.write(f"\n{reason}")
    sys.exit(_REFUSED)
