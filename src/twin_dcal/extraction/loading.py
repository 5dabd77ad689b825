"""Pictures read by other processes, in order; a damaged one becomes its reason. No torch here: workers start fast."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ImageError
from twin_dcal.workers import begin_worker, interrupts_held

Prepare = Callable[[str], NDArray[np.uint8]]
Loaded = NDArray[np.uint8] | str
"""Pixels, or why there are none."""

_AT_ONCE = 16


@contextmanager
def loader(prepare: Prepare, num_workers: int) -> Iterator[Callable[[Sequence[str]], Iterator[Loaded]]]:
    """A function that reads files in order. `prepare` must be picklable; 0 workers read in this process."""
    if num_workers == 0:
        yield lambda names: (read_or_reason(prepare, name) for name in names)
        return
    context = multiprocessing.get_context("spawn")  # forking a process with torch's threads can hang
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=begin_worker)
    try:
        yield lambda names: _in_order(pool, prepare, names)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, prepare: Prepare, names: Sequence[str]) -> Iterator[Loaded]:
    with interrupts_held():  # the pool starts its processes with the first work
        return pool.map(_Reading(prepare), names, chunksize=_AT_ONCE)


class _Reading:
    """A picklable call of `read_or_reason`."""

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare

    def __call__(self, name: str) -> Loaded:
        return read_or_reason(self._prepare, name)


def read_or_reason(prepare: Prepare, name: str) -> Loaded:
    """Pixels of a file, or one line that says why it has none."""
    try:
        return prepare(name)
    except ImageError as error:
        return str(error)
