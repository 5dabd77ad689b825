"""Device, precision and seeds of a run."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from twin_dcal.config import RuntimeConfig
from twin_dcal.distributed import launch
from twin_dcal.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where there is a device, else the CPU. ConfigError for an unknown or absent device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"runtime.device '{name}' is not a device; use auto, cpu, cuda or cuda:0") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"runtime.device '{name}': {torch.cuda.device_count()} CUDA devices are visible")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"runtime.device '{name}': no Apple GPU can be used here; use auto, cpu or cuda")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"runtime.device '{name}' is not supported; use auto, cpu, cuda or mps")
    return device


def amp_dtype(config: RuntimeConfig, device: torch.device) -> torch.dtype | None:
    """The autocast type, or None for full precision.

    `auto` is off outside CUDA; there it is bf16 where the hardware has it (emulated bf16 is slow), else fp16.
    """
    if config.amp == "off" or (config.amp == "auto" and device.type != "cuda"):
        return None
    if config.amp == "auto":
        real = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if real else torch.float16
    if config.amp == "fp16" and device.type == "cpu":
        raise ConfigError("runtime.amp 'fp16' needs a GPU; use 'bf16' or 'off' on a CPU")
    return torch.bfloat16 if config.amp == "bf16" else torch.float16


def process_device(name: str) -> torch.device:
    """`resolve_device`, each process of a node on a GPU of its own. ConfigError where there are too few."""
    device, own = resolve_device(name), launch()
    if device.type != "cuda" or own.world_size == 1:
        return device
    if device != torch.device("cuda"):
        raise ConfigError(f"runtime.device '{name}': every process takes a GPU of its own; use cuda or auto")
    if own.local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"local rank {own.local_rank} has no GPU, {torch.cuda.device_count()} are visible; start with "
            f"--nproc_per_node={torch.cuda.device_count()}, or use --device cpu"
        )
    device = torch.device("cuda", own.local_rank)
    torch.cuda.set_device(device)
    return device


def seed_process(seed: int, rank: int) -> None:
    """Start torch's generators of a process other than rank 0, which goes on with those that drew the weights."""
    mixed = np.random.SeedSequence((seed, rank))
    torch.manual_seed(int(mixed.generate_state(1, np.uint64)[0]))


def random_state(device: torch.device) -> dict[str, Tensor | None]:
    """The generators of this process."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_state(state: Mapping[str, Tensor | None], device: torch.device) -> None:
    """Go on with what `random_state` gave."""
    assert state["cpu"] is not None
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
