"""Parts computed by the workers of a Ray cluster, each of which holds the model; the command alone writes files.

A worker takes a part at a time and hands its features back. One that dies, with its node or alone, is replaced, and its
part is computed anew: a part counts once it is a file.
"""

import logging
import os
import pickle
import socket
from collections import Counter, deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from twin_dcal._version import __version__
from twin_dcal.errors import ConfigError, TwinDcalError
from twin_dcal.files import is_file
from twin_dcal.inference.backend import FeatureType
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.plural import plural
from twin_dcal.prepare.detector import is_available
from twin_dcal.progress import ProgressBar

from .loading import loader
from .parts import Part, embed_part, reading
from .ray_cluster import joined

logger = logging.getLogger(__name__)

TRIES = 3
"""How often workers may die over one part, or while they open the model, before the command ends."""
_TOLD_AFTER_S = 30


class OnRay(NamedTuple):
    """address: "auto", or HOST:PORT of the cluster's head; device: "auto", "cpu" or "cuda"."""

    address: str
    device: str = "auto"


class Order(NamedTuple):
    """What every worker does. folder: where relative names start; num_readers: processes beside it that read pictures;
    on_cpu: it computes on one CPU with one thread."""

    engine: bytes
    folder: str
    feature_type: FeatureType
    batch_size: int
    num_readers: int
    on_cpu: bool


class Result(NamedTuple):
    """unseen: pictures of the part that are no files on the worker's node."""

    part: Part
    unseen: list[str]
    host: str


class PartWorker:
    """What a Ray actor holds. `open` comes first: an error in `__init__` would arrive as text only."""

    def open(self, order: Order) -> tuple[str, bool]:
        """Open the model; the version here, and whether faces can be found. ConfigError where the model is not seen."""
        if order.on_cpu:
            os.environ["OMP_NUM_THREADS"] = "1"
            import torch

            torch.set_num_threads(1)
        try:
            os.chdir(order.folder)
            self._engine: TwinInferenceEngine = pickle.loads(order.engine)
        except (TwinDcalError, OSError) as error:
            raise ConfigError(
                f"--ray: {socket.gethostname()} cannot open it: {error}. Model, images and the current folder must be "
                "at the same place on every node"
            ) from None
        self._order, self._reading = order, ExitStack()
        self._load = self._reading.enter_context(loader(reading(self._engine), order.num_readers))
        return __version__, is_available()

    def part(self, names: Sequence[str]) -> Result:
        order = self._order
        part = embed_part(self._engine, self._load(names), order.feature_type, order.batch_size)
        failed = (names[int(row)] for row, _ in part.failed)
        return Result(part, [name for name in failed if not is_file(name)], socket.gethostname())


def parts_on_ray(
    where: OnRay, engine: TwinInferenceEngine, names: Mapping[int, Sequence[str]], feature_type: FeatureType,
    batch_size: int, num_workers: int, bar: ProgressBar,
) -> Generator[tuple[int, Part], None, None]:  # fmt: skip
    """The parts with these numbers and pictures, as they are done.

    Args: num_workers: processes that read pictures for each GPU; a worker on a CPU reads its own. ConfigError where
    the cluster cannot be used, or workers die over the same part again and again.
    """
    if not names:
        return
    with joined(where.address) as ray:
        may_use_gpus = engine.source.format == "torch" and where.device != "cpu"
        number, each = workers_that_fit(ray.nodes(), may_use_gpus, num_workers)
        on_cpu = "num_gpus" not in each
        order = Order(
            pickle.dumps(engine),
            str(Path.cwd()),
            feature_type,
            batch_size,
            0 if on_cpu else num_workers,
            on_cpu,
        )
        logger.info("Ray: %s, each on %s", plural(number, "worker"), "one CPU" if on_cpu else "one GPU")
        yield from _computed(ray, order, min(number, len(names)), each, names, bar)


def workers_that_fit(
    nodes: Sequence[Mapping[str, Any]], may_use_gpus: bool, num_workers: int
) -> tuple[int, dict[str, int]]:
    """How many workers a cluster has room for, and what each takes: one GPU where there are any, with a CPU for it and
    for each process that reads its pictures; else one CPU. ConfigError where there is room for none.

    Workers of both kinds would give features that differ in their last bits.
    """
    free = [node["Resources"] for node in nodes if node["Alive"]]
    if may_use_gpus and any(node.get("GPU", 0) >= 1 for node in free):
        each = {"num_gpus": 1, "num_cpus": 1 + num_workers}
        number = sum(
            min(int(node.get("GPU", 0)), int(node.get("CPU", 0)) // each["num_cpus"]) for node in free
        )
    else:
        each = {"num_cpus": 1}
        number = sum(int(node.get("CPU", 0)) for node in free)
    if number == 0:
        needed = f"{plural(each['num_cpus'], 'CPU')}" + (
            " beside a GPU; lower --num_workers" if len(each) > 1 else ""
        )
        raise ConfigError(f"--ray: no node of the cluster has {needed}")
    return number, each


def _computed(
    ray: Any, order: Order, number: int, each: Mapping[str, int], names: Mapping[int, Sequence[str]],
    bar: ProgressBar,
) -> Generator[tuple[int, Part], None, None]:  # fmt: skip
    """Give parts to workers that have opened the model, so that one which finds no room holds up nothing."""
    actor, given = ray.remote(**each)(PartWorker), ray.put(order)
    waiting, num_left = deque(names), len(names)
    tries: Counter[int | None] = Counter()
    running: dict[Any, tuple[Any, int | None]] = {}
    told = False

    def start() -> None:
        worker = actor.remote()
        running[worker.open.remote(given)] = worker, None

    for _ in range(number):
        start()
    while num_left:
        ready, _ = ray.wait(list(running), timeout=_TOLD_AFTER_S)
        if not ready:
            if not told and all(part is None for _, part in running.values()):
                logger.info("waiting for Ray to start a worker; others may use the cluster")
                told = True
            continue
        worker, done = running.pop(ready[0])
        try:
            result = ray.get(ready[0])
        except ray.exceptions.RayTaskError as error:
            raise _own(error) from None
        except ray.exceptions.RayError as error:  # the worker is gone, or its node with what it had computed
            tries[done] += 1
            if tries[done] == TRIES:
                raise ConfigError(
                    _deaths_text(names.get(done) if done is not None else None, error)
                ) from None
            if done is not None:
                waiting.appendleft(done)
            logger.info("a Ray worker died; another takes its place")
            ray.kill(worker)
            start()
            continue
        if done is None:
            _refuse_other(result)
            tries.pop(None, None)
        else:
            _refuse_unseen(result)
            yield done, result.part
            bar.update(len(names[done]))
            num_left -= 1
        if waiting:
            part = waiting.popleft()
            running[worker.part.remote(names[part])] = worker, part


def _own(error: Any) -> Exception:
    """The error that a worker raised, without Ray's traceback where it is one of ours."""
    cause = error.cause
    if isinstance(cause, TwinDcalError):
        kind: type[TwinDcalError] = next(
            each for each in type(cause).__mro__ if each.__module__ == TwinDcalError.__module__
        )
        return kind(cause.args[0])
    if "No module named 'twin_dcal" in str(error):
        return ConfigError("--ray: twin_dcal is not installed on every node of the cluster")
    # Of the machine: its text says what. A fault of ours: Ray's text has the worker's traceback.
    return cause if isinstance(cause, OSError) else error


def _refuse_other(opened: tuple[str, bool]) -> None:
    """ConfigError where a node would compute other features than this one."""
    version, finds_faces = opened
    if version != __version__:
        raise ConfigError(
            f"--ray: a node has twin_dcal {version}, this one {__version__}; install one for all"
        )
    if finds_faces != is_available():
        raise ConfigError(
            "--ray: the extra 'prepare' is installed on some nodes only; install it on all or none"
        )


def _refuse_unseen(result: Result) -> None:
    for name in result.unseen:
        if is_file(name):
            raise ConfigError(
                f"--ray: {result.host} does not see {name}, which is here; images must be at the same place on "
                "every node"
            )


def _deaths_text(names: Sequence[str] | None, error: Exception) -> str:
    reason = next(
        (line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__
    )
    over = (
        "while they open the model" if names is None else f"over the pictures from {names[0]} to {names[-1]}"
    )
    return f"--ray: workers died {TRIES} times {over} ({reason[:200]}). Out of memory? What is done is kept"
