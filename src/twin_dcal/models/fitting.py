"""Do stored tensors belong to a model? Asked of a model on the meta device, before any memory is taken for it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from twin_dcal.errors import ModelError

_SHOWN = 3
_FILLING = frozenset(
    {"add_", "clamp_", "copy_", "div_", "erfinv_", "fill_", "mul_", "normal_", "sub_", "uniform_", "zero_"}
    | {name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")}
)


class _Unfilled(TorchFunctionMode):
    """Leaves out filling tensors that have no values. Torch would follow each operation in Python, which took longer
    than everything else about an outline."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        given = kwargs or {}
        if getattr(func, "__name__", "") in _FILLING:
            target = args[0] if args else given.get("tensor")
            if isinstance(target, Tensor) and target.is_meta:
                return target
        return func(*args, **given)


@contextmanager
def outlining() -> Iterator[None]:
    """Networks built in the block are on the meta device: their tensors have a shape and kind, but neither memory nor
    values, and no starting weights are drawn for them."""
    with torch.device("meta"), _Unfilled():
        yield


def refuse_misfit(outline: nn.Module, stored: Mapping[str, Tensor]) -> None:
    """ModelError, in one line, unless `stored` has the name, shape and kind of every tensor of the model, and no other.

    Args: outline: the model, on any device; on "meta" it takes no memory, whatever size a configuration claims.
    """
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise ModelError("its weights are no table of tensors")
    own = outline.state_dict()
    missing, left_over = [key for key in own if key not in stored], [key for key in stored if key not in own]
    problems = [
        f"{len(names)} {word} ({_some(names)})"
        for word, names in (("missing", missing), ("left over", left_over))
        if names
    ]
    other = [
        f"{key} is {_kind(stored[key])}, not {_kind(value)}"
        for key, value in own.items()
        if key in stored and (stored[key].shape, stored[key].dtype) != (value.shape, value.dtype)
    ]
    if other:
        problems.append(_some(other))
    if problems:
        raise ModelError(f"its weights do not fit its configuration: {'; '.join(problems)}")


def refuse_not_finite(stored: Mapping[str, Tensor]) -> None:
    """ModelError for a tensor that holds NaN or infinity: whatever it computes decides nothing."""
    for key, value in stored.items():
        if value.is_floating_point() and value.numel():
            ends = torch.stack(torch.aminmax(value))  # NaN goes through; nothing of the tensor's size is made
            if not torch.isfinite(ends).all():
                raise ModelError(f"its weights hold NaN or infinity ({key:.200})")


def _kind(value: Tensor) -> str:
    return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"


def _some(names: Iterable[object]) -> str:
    shown = [f"{name:.100}" for name in map(str, names)]
    more = len(shown) - _SHOWN
    return ", ".join(shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
