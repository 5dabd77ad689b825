"""Photos through any number of processes; what comes out does not depend on how many."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

from twin_dcal.errors import ImageError
from twin_dcal.plural import plural
from twin_dcal.workers import begin_worker, interrupts_held

from .detector import FaceDetector
from .journal import CROPS, JOURNAL, read_journal
from .photo import PhotoProcessor, Record, process_photo
from .settings import PrepareConfig

_AT_ONCE = 8  # photos a process takes at a time
_ROUND = 4096  # photos handed out before results are awaited


def work(
    paths: Sequence[Path], config: PrepareConfig, state: Path, detector: str | None, workers: int
) -> Iterator[Record]:
    """A record for each path, in order. ImageError if a process dies, naming what it was given."""
    if workers <= 1 or len(paths) <= _AT_ONCE:
        known = read_journal(state / JOURNAL)
        with _one_thread():
            processor = PhotoProcessor(config, state / CROPS, FaceDetector(detector))
            for path in paths:
                yield process_photo(path, processor, known)
        return
    with ExitStack() as stack:
        pool = stack.enter_context(
            ProcessPoolExecutor(
                workers, multiprocessing.get_context("spawn"), _begin, (config, state, detector)
            )
        )
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)  # runs first: an error stops the rest
        for start in range(0, len(paths), _ROUND):
            yield from _round(pool, paths[start : start + _ROUND])


def _round(pool: ProcessPoolExecutor, paths: Sequence[Path]) -> Iterator[Record]:
    parts = [paths[at : at + _AT_ONCE] for at in range(0, len(paths), _AT_ONCE)]
    with interrupts_held():
        waiting = [pool.submit(_work_on_some, part) for part in parts]
    for part, future in zip(parts, waiting, strict=True):
        try:
            yield from future.result()
        except BrokenProcessPool:
            raise ImageError(
                f"a process died at one of {plural(len(part), 'photo')} from {part[0]} on. What is done is kept: "
                "go on with the "
                "same command and --workers 1 to see which."
            ) from None


_processor: PhotoProcessor | None = None
_known: dict[str, Record] = {}


def _begin(config: PrepareConfig, state: Path, detector: str | None) -> None:
    global _processor, _known
    begin_worker()
    _processor, _known = (
        PhotoProcessor(config, state / CROPS, FaceDetector(detector)),
        read_journal(state / JOURNAL),
    )


def _work_on_some(paths: Sequence[Path]) -> list[Record]:
    assert _processor is not None
    return [process_photo(path, _processor, _known) for path in paths]


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV on one thread while the block runs, as in a process of its own."""
    cv2 = import_module("cv2")
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
