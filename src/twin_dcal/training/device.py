"""Device, precision and seeds of a run."""

import torch

from twin_dcal.config import RuntimeConfig
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
