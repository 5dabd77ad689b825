"""The processes of one run: who they are, what they tell each other, who does which part.

Everything works with one process and no process group too: gathering is then the identity. Objects travel over gloo
on the CPU, tensors over the backend of their own device.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from .config_text import whole_number
from .errors import ConfigError, TwinDcalError

T = TypeVar("T")

MEETING = timedelta(minutes=5)
"""How long processes wait for each other at the start."""
PATIENCE = timedelta(minutes=30)
"""How long a process waits for another within a run, for instance while that one computes intervals."""

_HOW = "torchrun --nproc_per_node=2 scripts/train_twin_verification.py … --distributed"


@dataclass(frozen=True)
class Launch:
    """What the launcher says of this process. restarts: how often torchrun has started the run's processes again."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    restarts: int = 0
    is_launched: bool = False


def launch(environment: Mapping[str, str] | None = None) -> Launch:
    """Read RANK, WORLD_SIZE and LOCAL_RANK, as torchrun sets them. ConfigError where some are missing or no numbers."""
    given = os.environ if environment is None else environment
    if "RANK" not in given and "LOCAL_RANK" not in given:  # WORLD_SIZE alone is set by many schedulers
        return Launch()
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in names if name not in given]:
        raise ConfigError(
            f"{', '.join(missing)} not set, other variables of a launcher are; unset them, or start with {_HOW}"
        )
    rank, size = _number(given, "RANK"), _number(given, "WORLD_SIZE")
    if not 0 <= rank < size:
        raise ConfigError(f"RANK {rank} is not below WORLD_SIZE {size}; start with {_HOW}")
    local = _number(given, "LOCAL_RANK") if "LOCAL_RANK" in given else rank
    restarts = whole_number(given.get("TORCHELASTIC_RESTART_COUNT", "0")) or 0
    return Launch(rank, size, local, restarts, is_launched=True)


def require_launch(
    *, local_rank: int | None = None, world_size: int | None = None, master_addr: str | None = None,
    master_port: int | None = None,
) -> Launch:  # fmt: skip
    """The launch of a command with --distributed; without a launcher, from options that name a rank and the meeting.

    Options fill in what the environment lacks. ConfigError where there is neither, or where they contradict it.
    """
    options = {
        "RANK": local_rank if "RANK" not in os.environ else None, "LOCAL_RANK": local_rank,
        "WORLD_SIZE": world_size, "MASTER_ADDR": master_addr, "MASTER_PORT": master_port,
    }  # fmt: skip
    for name, value in options.items():
        if value is not None and os.environ.setdefault(name, str(value)) != str(value):
            raise ConfigError(f"--{name.lower()} {value}: the launcher says {os.environ[name]}; leave it out")
    if "RANK" not in os.environ:
        raise ConfigError(f"--distributed: a launcher starts the processes: {_HOW}")
    return launch()


def _number(given: Mapping[str, str], name: str) -> int:
    try:
        return int(given[name])
    except ValueError:
        raise ConfigError(f"{name} is '{given[name]}', not a number; start with {_HOW}") from None


@contextmanager
def process_group(device_type: str) -> Iterator[Launch]:
    """Join the other processes for the block: NCCL for CUDA tensors, gloo for those of the CPU.

    ConfigError if the others cannot be reached. With one process nothing is opened.
    """
    own = launch()
    if own.world_size == 1 or dist.is_initialized():
        yield own
        return
    backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
    try:
        store, rank, size = next(rendezvous("env://", timeout=MEETING))
        store = dist.PrefixStore(_agreed_token(store, rank, size), store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except (
        RuntimeError,
        ValueError,
        TimeoutError,
    ) as error:  # torch's DistError and its kin are RuntimeErrors
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).strip().splitlines()[0][:200]
        raise ConfigError(
            f"rank {own.rank} of {own.world_size} cannot meet the others at {place} ({reason}); "
            "check --master_addr, --master_port and --nnodes of every node"
        ) from error
    yield own
    dist.destroy_process_group()  # not after an error: others may be gone


def _agreed_token(store: Any, rank: int, size: int) -> str:
    """A name that exactly the processes of this start have agreed on. TimeoutError if they are not all here in time.

    torchrun's store outlives its processes: after a restart it still has the addresses of those that died, and the
    restart count differs between nodes. Rank 0 offers a name, each rank answers it with a number of its own, and goes
    on once rank 0 has listed that number; what is listed under an old name are the numbers of the dead.
    """
    until = time.monotonic() + MEETING.total_seconds()
    own = uuid.uuid4().hex
    if rank == 0:
        store.set("offer", own)
        answers = [f"{own}/{other}" for other in range(1, size)]
        _wait_until(lambda: not answers or store.check(answers), until)
        store.set(f"{own}/go", b",".join(store.get(answer) for answer in answers))
        return own
    token = ""

    def is_listed() -> bool:
        nonlocal token
        if store.check(["offer"]):
            token = store.get("offer").decode()
            store.set(f"{token}/{rank}", own)
        return bool(token) and store.check([f"{token}/go"]) and own.encode() in store.get(f"{token}/go")

    _wait_until(is_listed, until)
    return token


def _wait_until(condition: Callable[[], bool], until: float) -> None:
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"not all processes came within {MEETING.total_seconds() / 60:g} minutes")
        time.sleep(0.05)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files, logs and trackers."""
    return rank() == 0


def barrier() -> None:
    """Wait for all."""
    gather_objects(None)


def shard_range(num_items: int, unit: int = 1) -> range:
    """This process's contiguous part of `num_items`, cut at multiples of `unit`; parts in rank order are the whole.

    With `unit` the batch size, every process computes batches that one process alone would compute, to the same bits.
    """
    num_units = -(-num_items // unit)
    start, stop = (num_units * place // world_size() * unit for place in (rank(), rank() + 1))
    return range(min(start, num_items), min(stop, num_items))


def gather_rows(rows: Tensor, counts: Sequence[int] | None = None) -> Tensor:
    """Rows of all processes in rank order, however many each has; without gradient.

    Args: rows: (n, …), n may differ and be 0. counts: n of each process, asked for if None. Returns (Σn, …).
    """
    if world_size() == 1:
        return rows
    counts = row_counts(len(rows)) if counts is None else counts
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def row_counts(own: int) -> list[int]:
    """`own` of every process."""
    parts = [torch.zeros(1, dtype=torch.int64) for _ in range(world_size())]
    if world_size() == 1:
        return [own]
    dist.all_gather(parts, torch.tensor([own]))
    return [int(part) for part in parts]


def gather_with_gradient(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """`gather_rows` for a loss that every process computes of all rows, and whose gradients are then averaged.

    The gradient that comes back is that of the process's own rows times the number of processes. Averaged over
    processes, as DDP and FSDP do, parameters before the gathering then have the gradient of the loss once, and so
    have parameters after it, whose gradient is the same everywhere.
    """
    return rows if world_size() == 1 else _GatherRows.apply(rows, tuple(counts))


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: tuple[int, ...]) -> Tensor:
        first = sum(counts[: rank()])
        ctx.own = slice(first, first + len(rows))
        return gather_rows(rows, counts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return world_size() * gradient[ctx.own], None


def sum_with_gradient(values: Tensor) -> Tensor:
    """The sum over processes; its gradient is the sum of the processes' gradients."""
    return values if world_size() == 1 else _Sum.apply(values)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def any_of(flags: Sequence[bool]) -> list[bool]:
    """Each flag, true if it is true in any process. One small message."""
    if world_size() == 1:
        return list(flags)
    values = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return [bool(value) for value in values]


def broadcast_object(value: T) -> T:
    """What rank 0 has, in every process. Pickled between processes of one run: they trust each other."""
    if world_size() == 1:
        return value
    carrier: list[Any] = [value if is_main() else None]
    dist.broadcast_object_list(carrier, src=0, device=torch.device("cpu"))
    return cast(T, carrier[0])


def on_rank_zero(do: Callable[[], T]) -> T:
    """What `do` gives rank 0, in every process; a TwinDcalError that it meets there is raised in all."""
    outcome: tuple[T | None, TwinDcalError | None] = (None, None)
    if is_main():
        try:
            outcome = do(), None
        except TwinDcalError as error:
            outcome = None, error
    value, problem = broadcast_object(outcome)
    if problem is not None:
        raise problem
    return cast(T, value)


@contextmanager
def entered_by_main(context: AbstractContextManager[None]) -> Iterator[None]:
    """`context` around the block in rank 0; a TwinDcalError at its beginning is raised in every process."""
    with ExitStack() as entered:
        on_rank_zero(lambda: entered.enter_context(context))
        yield


def gather_objects(value: T) -> list[T]:
    """What every process has, in rank order."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    group = _cpu_group()
    dist.all_gather_object(found, value, group=group)
    return found


_cpu: list[Any] = []


def _cpu_group() -> Any:
    """A gloo group for objects; the default group would send them through the GPU where it has NCCL."""
    if dist.get_backend() == "gloo":
        return None
    if not _cpu or _cpu[0][0] is not dist.group.WORLD:
        _cpu[:] = [(dist.group.WORLD, dist.new_group(backend="gloo", timeout=PATIENCE))]
    return _cpu[0][1]
