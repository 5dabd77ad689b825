"""Weights files of other programs: which of their tensors are the network's."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch
from torch import Tensor

from twin_dcal.errors import ModelError

from .fitting import refuse_not_finite


def refuse_packed(path: Path) -> None:
    """ModelError for a file of torch with records that are larger than they are in the file: a few bytes that unpack to
    all of memory, or tensors that stand where others do. Only its table of contents is read."""
    if not is_zipfile(path):
        return
    try:
        with ZipFile(path) as archive:
            entries = archive.infolist()
    except (BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(
            f"{path}: not a weights file, or damaged ({' '.join(str(error).split())[:150]})"
        ) from error
    if any(entry.compress_type != ZIP_STORED for entry in entries):
        raise ModelError(f"{path}: holds compressed records, which no weights file of torch does")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ModelError(f"{path}: damaged: its records are larger than the file")


def refuse_unusable(weights: Mapping[str, Any], path: Path) -> None:
    """ModelError unless a file holds a table of dense tensors by name, with numbers that are finite."""
    for key, value in weights.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise ModelError(f"{path}: no table of tensors: {key!r:.60} is a {type(value).__name__}")
        if value.layout is not torch.strided or value.is_complex() or value.is_quantized or value.is_meta:
            raise ModelError(f"{path}: {key:.100} is no dense tensor of real numbers")
        # A view that repeats its numbers can claim any size, and the first copy of it would need that much memory.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ModelError(f"{path}: {key:.100} claims more numbers than the file holds for it")
    try:
        refuse_not_finite(weights)
    except (
        ModelError,
        RuntimeError,
    ) as error:  # RuntimeError: of kinds that cannot be compared, 8 bits for example
        raise ModelError(f"{path}: {' '.join(str(error).split())[:200]}") from error


def own_part(weights: Mapping[str, Any], expected: Collection[str], path: Path) -> tuple[str, dict[str, Any]]:
    """Find the prefix that a file gives the names of a network, such as `backbone.` or `model.`, and take it off.

    Args: expected: the network's own names. Returns the prefix, and the tensors below it, those beside it being other
    parts of a larger model. No prefix and all tensors, where fewer than half of the names are found below one.
    ModelError if the file holds the network more than once.
    """
    found = Counter(prefix for key in weights if (prefix := _prefix(key, expected)) is not None)
    most = max(found.values(), default=0)
    best = sorted(prefix for prefix, count in found.items() if count == most)
    if not best or best[0] == "" or 2 * most < len(expected):
        return "", dict(weights)
    if len(best) > 1:
        raise ModelError(
            f"{path}: holds the network more than once, under {' and '.join(map(repr, best))}. Save the tensors of one "
            "of them, without the prefix, in a file of their own"
        )
    [prefix] = best
    return prefix, {
        key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)
    }


def _prefix(key: str, expected: Collection[str]) -> str | None:
    """What stands before the longest ending of `key` that is one of the network's names."""
    parts = key.split(".")
    for start in range(len(parts)):
        if ".".join(parts[start:]) in expected:
            return "".join(f"{part}." for part in parts[:start])
    return None
