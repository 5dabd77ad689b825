"""How a timm network's features hold its patches: as a map, as a map with channels last, or as tokens."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from twin_dcal.errors import ModelError

Axes = Literal["NCHW", "NHWC", "NLC"]


@dataclass(frozen=True)
class FeatureLayout:
    """Axes of a network's features, their channels, and (rows, columns) of patches after `num_prefix` tokens."""

    axes: Axes
    channels: int
    grid: tuple[int, int]
    num_prefix: int = 0

    def patches(self, features: Tensor) -> Tensor:
        """(B, N, F), row by row."""
        if self.axes == "NLC":
            return features[:, self.num_prefix :]
        if self.axes == "NHWC":
            return features.flatten(1, 2)
        return features.flatten(2).transpose(1, 2)


def feature_layout(network: Any, features: Tensor, image_size: tuple[int, int]) -> FeatureLayout:
    """The layout of the features that `network` gave for an image of this size. ValueError if it cannot be told."""
    channels, shape = int(network.num_features), tuple(features.shape)
    if len(shape) == 4:
        last = getattr(network, "output_fmt", "") == "NHWC" or shape[1] != channels
        if shape[3 if last else 1] == channels:
            return FeatureLayout("NHWC" if last else "NCHW", channels, shape[1:3] if last else shape[2:])
    elif len(shape) == 3 and shape[2] == channels:
        has_class_token = getattr(network, "cls_token", None) is not None
        num_prefix = int(getattr(network, "num_prefix_tokens", has_class_token))
        grid = _token_grid(network, shape[1] - num_prefix, image_size)
        if grid is not None:
            return FeatureLayout("NLC", channels, grid, num_prefix)
    raise ValueError(f"features of shape {shape} are neither a map nor tokens of {channels} channels")


def _token_grid(network: Any, num_patches: int, image_size: tuple[int, int]) -> tuple[int, int] | None:
    grids = [getattr(getattr(network, "patch_embed", None), "grid_size", None)]
    # Networks that merge tokens on the way end on a coarser grid than they began with.
    info = getattr(network, "feature_info", None) or [{}]
    reduction = (info[-1] if isinstance(info, list) else {}).get("reduction")
    if reduction:
        grids.append((image_size[0] // reduction, image_size[1] // reduction))
    for grid in grids:
        if grid is not None and math.prod(grid) == num_patches:
            return int(grid[0]), int(grid[1])
    return None


def measured_layout(network: Any, name: str, size: tuple[int, int]) -> FeatureLayout:
    """How the features of timm's network `name` hold patches, for images of this size (rows, columns).

    Parameters that the features do not use (some families keep layers of their head) are frozen on the way. ModelError
    for a network that gives no patches, or takes no such image.
    """
    features, parameters = _features_of_nothing(network, name, size)
    try:
        layout = feature_layout(network, features, size)
    except (ValueError, AttributeError) as error:
        raise ModelError(
            f"backbone '{name}' has no patches to attend to: {error}. Use a convolutional network or a plain ViT."
        ) from error
    gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
        features.sum(), list(parameters.values()), allow_unused=True
    )
    own = dict(network.named_parameters())
    for key, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            own[key].requires_grad_(False)
    return layout


class _Forward(nn.Module):
    """A network's features as a module's forward pass, which `functional_call` wants."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network.forward_features(images)  # type: ignore[operator]
        return features


def _features_of_nothing(network: Any, name: str, size: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
    """Features of one empty image, and the parameters they were computed with, by name.

    Only shapes are wanted, so all is on the meta device: no arithmetic, and no memory however large the image.
    """
    was_training = network.training
    own = next(network.parameters()).device
    try:
        with torch.enable_grad():
            try:
                return _forward_on(torch.device("meta"), network.eval(), size)
            except Exception:  # a tensor that the network keeps beside its state: it has to be computed
                return _forward_on(own, network, size)
    except Exception as error:
        raise takes_no(name, size, error) from error
    finally:
        network.train(was_training)


def _forward_on(
    device: torch.device, network: nn.Module, size: tuple[int, int]
) -> tuple[Tensor, dict[str, Tensor]]:
    parameters = {
        key: value.detach().to(device).requires_grad_() for key, value in network.named_parameters()
    }
    state = {**parameters, **{key: value.to(device) for key, value in network.named_buffers()}}
    with device:
        images = torch.zeros(1, 3, *size)
        features: Tensor = torch.func.functional_call(
            _Forward(network), {f"network.{key}": value for key, value in state.items()}, (images,)
        )
    return features, parameters


def takes_no(name: str, size: tuple[int, int], error: Exception) -> ModelError:
    """The error, in one line, for a network that fails on images of this size."""
    reason = " ".join(str(error).split())[:150] or type(error).__name__
    return ModelError(
        f"backbone '{name}' takes no images of {size[0]} x {size[1]} pixels ({reason}). Use another data.image_size, "
        "a convolutional network or a plain ViT."
    )
