"""Tables of tensors from the files that public face networks come in, read without running anything they hold."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from twin_dcal.errors import ModelError
from twin_dcal.models.weights_files import refuse_packed, refuse_unusable

_TABLES = (
    "state_dict", "model_state_dict", "state_dict_backbone", "backbone", "model", "net", "network", "weights",
)  # fmt: skip
"""Entries under which training programs keep the table of tensors."""

_BESIDE = (
    "pytorch_lightning.",
    "lightning.",
    "lightning_fabric.",
    "omegaconf.",
    "argparse.",
    "pathlib.",
    "numpy.",
)
"""Modules whose objects training programs keep beside the weights; nothing of them is needed."""


class _StandIn:
    """Takes the place of an object that is not needed, and forgets what it is given."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Name to tensor, on the CPU, from .pth, .pt, .ckpt, .bin or .safetensors.

    Pickled files are read with torch's `weights_only`: what Lightning keeps beside the weights is skipped, any other
    object is refused by name. ModelError, in one line, for a file that is missing, damaged or holds no such table.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"model.pretrained: no weights file {path}")
    if path.suffix == ".onnx":
        raise ModelError(f"{path}: an ONNX file; set model.backbone to 'onnx'")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _read_pickled(path)
    except ModelError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{path}: not a weights file that can be read safely ({reason})") from error
    table = _table(content, path)
    refuse_unusable(table, path)
    return table


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _read_pickled(path: Path) -> Any:
    refuse_packed(path)
    stand_ins: list[Any] = []
    if is_zipfile(
        path
    ):  # files of torch before 1.6 are not; weights_only refuses whatever is foreign in those
        foreign = sorted(get_unsafe_globals_in_checkpoint(path))
        blocked = [name for name in foreign if not name.startswith(_BESIDE)]
        if blocked:
            raise ModelError(
                f"{path}: holds objects besides tensors, which are left unread because reading them can run code: "
                f"{some(blocked)}. Save the network's state_dict() alone, as .safetensors or .pth"
            )
        stand_ins = [(_StandIn, name) for name in foreign]
    with safe_globals(stand_ins):
        return torch.load(path, map_location="cpu", weights_only=True)


def _table(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise ModelError(f"{path}: holds a {type(content).__name__}, not a table of tensors")
    for table in (content, *(content[name] for name in _TABLES if name in content)):
        if (
            isinstance(table, Mapping)
            and table
            and all(isinstance(value, Tensor) for value in table.values())
        ):
            return {str(key): value for key, value in table.items()}
    entries = some([str(key) for key in content], 6) or "none"
    raise ModelError(f"{path}: holds no table of tensors; its entries are {entries}")
