"""What a training state says, checked before anything of a run is changed by it: kinds, ranges, and whether it fits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError
from torch import Tensor, nn

from twin_dcal.errors import ModelError
from twin_dcal.model_file.entries import first_fault, refuse_objects
from twin_dcal.models.fitting import refuse_misfit, refuse_not_finite

_Text = Annotated[str, Strict()]
_Count = Annotated[int, Strict(), Field(ge=0, lt=2**53)]
_Digest = Annotated[int, Strict(), Field(ge=-(2**63), lt=2**63)]
_Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
_Figure = Annotated[float, Strict()]
"""May be infinite or NaN: what validation could not tell."""
_MOMENTS = {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer"}


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class _Standing(_Schema):
    figure: _Number
    left_out: list[_Figure]
    num_families: _Count


class _Progress(_Schema):
    epoch: _Count
    batch: _Count
    step: _Count
    images: _Count
    skipped: _Count
    best_key: tuple[_Figure, _Figure] | None
    stale_validations: _Count
    start: _Standing | None = None  # absent in files of earlier releases
    sums: dict[_Text, _Number]
    seen: _Count


class _Images(_Schema):
    people: list[_Text]
    num_images: list[_Count]
    images: list[_Digest]


class _Random(_Schema):
    cpu: Tensor
    cuda: Tensor | None


class _State(_Schema):
    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)

    config: dict[_Text, dict[_Text, Any]]
    people: list[_Text]
    data: dict[_Text, _Images] | None = None  # absent in files of earlier releases
    model: dict[_Text, Tensor]
    loss: dict[_Text, Tensor]
    optimizer: dict[_Text, Any]
    scaler: dict[_Text, _Number]
    progress: _Progress
    best_figures: dict[_Text, _Figure]
    began: _Number
    rng: Annotated[list[_Random], Field(min_length=1, max_length=100_000)]
    unreadable: dict[_Text, _Text] = {}


def check_kinds(state: Mapping[str, Any], path: Path) -> None:
    """ModelError, in one line that names `path`, unless every entry of a state is of its kind and in its range."""
    with _told(path, "an entry is missing or of the wrong kind"):
        _check_kinds(state)


def check_fit(
    state: Mapping[str, Any], model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer, path: Path
) -> None:
    """ModelError, likewise, unless its tensors are those of the run's own model, loss and optimizer, and finite."""
    with _told(path, "does not fit this configuration"):
        for own, name in ((model, "model"), (loss, "loss")):
            refuse_misfit(own, state[name])
            refuse_not_finite(state[name])
        _check_optimizer(state["optimizer"], optimizer)


@contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise ModelError(f"{path}: {what} ({first_fault(error)})") from None
    except (AttributeError, LookupError, ModelError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        raise ModelError(f"{path}: {what}: {reason}") from error


def _check_kinds(state: Mapping[str, Any]) -> None:
    checked = _State.model_validate(dict(state))
    missing = {"model", "training", "loss", "data", "runtime"} - set(checked.config)
    if missing:
        raise ValueError(f"its configuration lacks {', '.join(sorted(missing))}")
    refuse_objects(state["config"], "config")
    for name, images in (checked.data or {}).items():
        if len(images.people) != len(images.num_images) or sum(images.num_images) != len(images.images):
            raise ValueError(f"its images of '{name:.20}' contradict each other")
    if checked.data is not None and not {"train", "val"} <= set(checked.data):
        raise ValueError("it does not say which images it knows")
    length = torch.get_rng_state().numel()
    for place in checked.rng:
        if place.cpu.dtype != torch.uint8 or place.cpu.shape != (length,):
            raise ValueError("its random state is none")


def _check_optimizer(stored: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Groups are those of the run, whose rates alone change; moments have their parameters' shapes."""
    groups, own = stored["param_groups"], optimizer.state_dict()["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(own):
        raise ValueError("its optimizer has other groups")
    for group, mine in zip(groups, own, strict=True):
        refuse_objects(group, "optimizer")
        differ = [key for key, value in mine.items() if key in group and key != "lr" and group[key] != value]
        if differ or not {"params", "lr"} <= set(group):
            raise ValueError(f"its optimizer has another {', '.join(differ) or 'kind of group'}")
        if type(group["lr"]) not in (int, float) or not 0 <= group["lr"] < 1e6:
            raise ValueError(f"its learning rate is {group['lr']!r:.40}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not isinstance(stored["state"], dict):
        raise TypeError("its optimizer has no moments")
    for number, moments in stored["state"].items():
        if type(number) is not int or not 0 <= number < len(parameters) or set(moments) - _MOMENTS:
            raise ValueError(f"its optimizer has moments of {number!r:.20} that are none")
        _check_moments(moments, parameters[number])


def _check_moments(moments: Mapping[str, Any], parameter: Tensor) -> None:
    for name, value in moments.items():
        if value is None:
            continue
        wanted = () if name == "step" else tuple(parameter.shape)
        if not isinstance(value, Tensor) or tuple(value.shape) != wanted or not value.is_floating_point():
            raise ValueError(f"its optimizer's {name} has not the shape of its parameter")
        refuse_not_finite({f"optimizer {name}": value})
        if name in ("step", "exp_avg_sq") and value.numel() and float(value.min()) < 0:
            raise ValueError(f"its optimizer's {name} is negative")
