"""What callers hand over, looked at before it is used: one clear line for what is of another kind."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image

from twin_dcal.errors import ConfigError, TwinDcalError


def as_path(value: object, name: str, fault: type[TwinDcalError] = ConfigError) -> Path:
    """A path. `fault` for what is none, and for an empty text, which would be the folder that one is in."""
    if not isinstance(value, str | Path):
        raise fault(f"{name}: a {type(value).__name__}; give a path")
    if not str(value) or "\0" in str(value):
        raise fault(f"{name} {str(value)!r}: no path; give that of a file or folder")
    return Path(value)


def check_one_of(value: object, kind: Any, name: str) -> None:
    """ConfigError for what is none of the texts of a Literal."""
    if not isinstance(value, str) or value not in get_args(kind):
        told = repr(value) if isinstance(value, str) else f"of type {type(value).__name__}"
        raise ConfigError(f"{name} {told:.60}: give one of {', '.join(get_args(kind))}")


def as_list(given: Any, name: str, what: str) -> list[Any]:
    """What can be gone through, in order. ConfigError for anything else, texts and mappings among it.

    Args: what: is in the list, for messages: "pictures".
    """
    is_other = isinstance(given, str | bytes | Path | Mapping) or hasattr(given, "columns")
    try:
        if not is_other:
            return list(given)
    except TypeError:
        pass
    raise ConfigError(f"{name}: a {type(given).__name__}; give a list of {what}") from None


def as_pairs(given: Any, name: str, what: str) -> list[Any]:
    """A list of pairs. ConfigError for anything else. Args: what: is in a pair, for messages: "two people"."""
    listed = as_list(given, name, f"pairs of {what}")
    for pair in listed:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ConfigError(f"{name} {pair!r:.60}: give pairs of {what}")
    return listed


def is_picture(given: Any) -> bool:
    """Whether this is one picture rather than several. An array or tensor of four axes is several."""
    if isinstance(given, str | bytes | bytearray | memoryview | Path | Image.Image):
        return True
    torch = sys.modules.get("torch")
    if isinstance(given, np.ndarray) or (torch is not None and isinstance(given, torch.Tensor)):
        return given.ndim in (2, 3)
    return callable(getattr(given, "read", None))


def as_pictures(given: Any, name: str = "images") -> list[Any]:
    """A list of pictures. ConfigError for a single one, whose rows or letters would be taken for pictures, and for what
    is no list."""
    if is_picture(given):
        raise ConfigError(f"{name}: one picture; give a list, [picture]")
    return as_list(given, name, "pictures")
