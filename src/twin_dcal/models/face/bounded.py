"""A network from a file is run before anything is known of it: each tensor's size is asked for before it is made."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from twin_dcal.errors import ModelError


class Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operator in the block runs on the meta device first, where it takes no memory.

    Args: num_bytes: ModelError before the tensors that are made in the block, kept or not, take more together.
    """

    def __init__(self, num_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._num_bytes = self._left = num_bytes

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # fmt: skip
        self._left -= _num_made(func, args, kwargs or {})
        if self._left < 0:
            raise ModelError(
                f"its network needs more than {self._num_bytes} bytes for one picture, which no network for faces does"
            )
        return func(*args, **(kwargs or {}))


def _num_made(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Bytes of an operator's results, those that are views left out; 0 where only its numbers would tell."""
    returns = func._schema.returns
    if all(result.alias_info is not None for result in returns):
        return 0
    outline: Callable[[Any], Any] = lambda value: _outline(value) if isinstance(value, Tensor) else value  # noqa: E731
    given = dict(tree_map(outline, dict(kwargs)))
    if any(argument.name == "device" for argument in func._schema.arguments):
        given["device"] = torch.device("meta")
    try:
        made = func(*tree_map(outline, list(args)), **given)
    except (RuntimeError, TypeError, ValueError):
        return 0
    made = made if isinstance(made, tuple) else (made,)
    new = [value for value, result in zip(made, returns, strict=False) if result.alias_info is None]
    return sum(
        value.numel() * value.element_size() for value in tree_leaves(new) if isinstance(value, Tensor)
    )


def _outline(value: Tensor) -> Tensor:
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
