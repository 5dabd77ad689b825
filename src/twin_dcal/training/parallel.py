"""How the processes of a run share the work of a step: not at all, DDP, or FSDP2.

Checkpoints are the same for all three: whole tensors on the CPU or the device.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from twin_dcal.distributed import world_size
from twin_dcal.models.backbone import Frozen

from .objective import Objective, Outcome

Strategy = Literal["ddp", "fsdp"]


class Parallel:
    """One process: the objective as it is. Subclasses say what is different with several."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._call: nn.Module = objective

    def __call__(self, images: Tensor | Frozen, *labels: Tensor) -> Outcome:
        return cast(Outcome, self._call(images, *labels))

    @contextmanager
    def synchronizing(self, wanted: bool) -> Iterator[None]:
        """Forward and backward pass in here add up gradients over processes only if `wanted`."""
        yield

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The model may be called in here by one process without the others."""
        yield


class DataParallel(Parallel):
    """DistributedDataParallel."""

    def __init__(self, objective: Objective, device: torch.device, example: tuple[Tensor, ...]) -> None:
        super().__init__(objective)
        self._ddp = DistributedDataParallel(
            objective, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True,
            find_unused_parameters=has_unused_parameters(objective, example),
            **_without_buffer_broadcast(),
        )  # fmt: skip
        self._call = self._ddp
        if dist.get_backend() == "gloo" and world_size() > 2:
            self._ddp.register_comm_hook(None, _mean_in_rank_order)

    @contextmanager
    def synchronizing(self, wanted: bool) -> Iterator[None]:
        with nullcontext() if wanted else self._ddp.no_sync():
            yield


def _without_buffer_broadcast() -> dict[str, Any]:
    """Buffers are equal in all processes already (see batchnorm); the option was renamed in torch 2.14."""
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}


def _mean_in_rank_order(
    state: object,
    bucket: dist.GradBucket,  # type: ignore[name-defined]  # DDP checks this annotation
) -> torch.futures.Future[Tensor]:
    """Gradients added up in the order of ranks.

    gloo's own sum starts at a rank that depends on the place in the bucket, and DDP forms its buckets anew after the
    first step: a resumed run of three or more processes would end in other last bits.
    """
    own: Tensor = bucket.buffer()
    parts = [torch.empty_like(own) for _ in range(world_size())]
    work = dist.all_gather(parts, own, async_op=True)
    assert work is not None

    def mean(_: object) -> Tensor:
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return own.copy_(total / world_size())

    return work.get_future().then(mean)


class ShardedParallel(Parallel):
    """FSDP2: parameters, gradients and optimizer state are split over processes.

    The feed-forward and projection layers of the blocks are gathered one at a time, the rest for the whole pass. The
    projection of queries, keys and values is read in parts where a block is cut (`query_block`), so there it stays with
    the rest.
    """

    def __init__(self, objective: Objective, device: torch.device) -> None:
        super().__init__(objective)
        mesh = init_device_mesh(device.type, (world_size(),))
        model = objective.model
        blocks: list[Any] = list(model.backbone.blocks)
        for block in [*blocks, *([model.glca_block] if hasattr(model, "glca_block") else [])]:
            whole = [block.attn.qkv] if block in blocks[:-1] else []
            for part in (block.mlp, block.attn.proj, *whole):
                fully_shard(part, mesh=mesh)
        fully_shard(model, mesh=mesh)
        fully_shard(objective.loss, mesh=mesh)
        register_fsdp_forward_method(model, "embed")

    def _shards(self) -> list[FSDPModule]:
        return [module for module in self.objective.modules() if isinstance(module, FSDPModule)]

    @contextmanager
    def synchronizing(self, wanted: bool) -> Iterator[None]:
        for part in self._shards():
            part.set_requires_gradient_sync(wanted, recurse=False)
        yield

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """All weights are whole for the time being: processes have different numbers of batches."""
        shards = self._shards()
        for part in shards:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        yield
        for part in shards:
            part.reshard()
            part.set_reshard_after_forward(True, recurse=False)


def parallelize(
    objective: Objective, strategy: Strategy, device: torch.device, example: tuple[Tensor, ...]
) -> Parallel:
    """The objective for this run's processes. Build the optimizer after it: FSDP replaces parameters.

    Args: example: a batch that `objective` takes, to see which parameters get gradients.
    """
    if world_size() == 1:
        return Parallel(objective)
    return (
        ShardedParallel(objective, device) if strategy == "fsdp" else DataParallel(objective, device, example)
    )


def has_unused_parameters(objective: Objective, example: tuple[Tensor, ...]) -> bool:
    """Whether some parameter gets no gradient (the unused last layer of a CNN). Leaves random state and buffers."""
    buffers = [buffer.clone() for buffer in objective.buffers()]
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    devices = [example[0].device] if example[0].is_cuda else []
    with torch.random.fork_rng(devices=devices):
        loss = objective(*example).loss
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    with torch.no_grad():
        for buffer, value in zip(objective.buffers(), buffers, strict=True):
            buffer.copy_(value)
    return any(gradient is None for gradient in gradients)


def full_state_dict(state: Any) -> Any:
    """A copy of nested state with every shard gathered; all processes call it together."""
    if isinstance(state, DTensor):
        return state.full_tensor()
    if isinstance(state, Mapping):
        return {key: full_state_dict(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(full_state_dict(value) for value in state)
    return state


def load_full_state_dict(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """`load_state_dict` of whole tensors into a module that may hold shards. RuntimeError if they do not fit."""
    own = module.state_dict()
    module.load_state_dict({key: _shard(value, own.get(key)) for key, value in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Likewise for an optimizer: moments are split as their parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    split = {
        number: {
            key: _shard(value, parameters[number])
            if isinstance(value, Tensor) and value.shape == parameters[number].shape
            else value
            for key, value in values.items()
        }
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": split})


def _shard(value: Tensor, like: object) -> Tensor:
    if not isinstance(like, DTensor):
        return value
    value = value.to(like.device)
    # Every process has the whole tensor: each takes its own part.
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def grad_norm(norm: Tensor) -> float:
    """The number in what `clip_grad_norm_` returns."""
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
