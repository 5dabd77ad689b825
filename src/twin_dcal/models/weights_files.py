"""Weights files of other programs: which of their tensors are the network's."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from twin_dcal.errors import ModelError


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
