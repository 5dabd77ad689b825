"""Variables of the user's environment that may be wrong, where a library would end a command over them."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from twin_dcal.errors import ConfigError


def num_threads() -> int:
    """OMP_NUM_THREADS, as torch reads it, for ONNX Runtime; 0, the runtime's own choice, where it is no number."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(told[:9]), os.cpu_count() or 1) if told.isascii() and told.isdigit() else 0


_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


def refuse_unreadable() -> None:
    """ConfigError for what would end the process inside of a library, without a word that helps: settings of torch's
    allocator that are no `name:value,name:value`, and a current folder that is gone, which MKL ends over."""
    for name in _ALLOCATOR:
        told = re.sub(r"\[[^]]*\]", "", os.environ.get(name, ""))
        if any(":" not in setting for setting in told.split(",") if setting.strip()):
            raise ConfigError(
                f"the environment has {name}={os.environ[name][:60]!r}, which torch cannot read; unset it"
            )
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ConfigError("the current folder is gone; go to one that exists") from None


def ignore_wrong_epoch() -> None:
    """Take away a SOURCE_DATE_EPOCH that is no time: nothing here is dated by it, and matplotlib would fail over it."""
    told = os.environ.get("SOURCE_DATE_EPOCH", "")
    if told and not (told.isascii() and told.isdigit() and len(told) <= len("253402300799")):
        del os.environ["SOURCE_DATE_EPOCH"]


def ignore_wrong_backend() -> None:
    """Take away an MPLBACKEND that matplotlib does not have, which it would refuse to be imported with. Our figures
    need no backend: each is saved by Agg or as text. matplotlib is not imported here.

    Called by every command, and by the packages that draw.
    """
    name = os.environ.get("MPLBACKEND", "")
    spec = find_spec("matplotlib") if name and not name.startswith("module://") else None
    if spec is None or not spec.submodule_search_locations:
        return
    folder = Path(spec.submodule_search_locations[0]) / "backends"
    if not (folder / f"backend_{name.lower()}.py").is_file():
        del os.environ["MPLBACKEND"]
