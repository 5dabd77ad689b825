"""Face networks in timm's format: a folder with config.json and weights, or the same on timm's model hub.

Their "classifier" is the layer that gives the embedding (github.com/gau-nernst/timm-face), so it is kept.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import timm
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from twin_dcal.errors import ModelError
from twin_dcal.hub import need_hub, try_to_load_from_cache
from twin_dcal.image_size import MAX_WIDTH
from twin_dcal.model_file.room import room
from twin_dcal.models.feature_maps import feature_layout
from twin_dcal.models.fitting import outlining
from twin_dcal.privacy import hub_allowed

from .bounded import Bounded
from .network import MAX_SIDE, FaceInput, FaceNetwork

logger = logging.getLogger(__name__)

HUB = ("hf_hub:", "hf-hub:")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_FACTORY = {
    "checkpoint_path", "cache_dir", "exportable", "features_only", "no_jit", "num_classes", "pretrained",
    "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "scriptable",
}  # fmt: skip
"""Arguments of timm's factory that are not the network's own; a description from outside may not set them."""


_Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
_Number = Annotated[float, Field(ge=-1000, le=1000)]
_Deviation = Annotated[float, Field(ge=1e-4, le=1000)]
_Argument = Annotated[int, Field(ge=-MAX_WIDTH, le=MAX_WIDTH)] | _Number | str | bool | None
_Arguments = Annotated[list[_Argument], Field(max_length=100)] | dict[str, _Argument]


class _Description(BaseModel):
    """A network as a checkpoint describes it, with bounds on what sets its size."""

    model_config = ConfigDict(
        protected_namespaces=()
    )  # pydantic before 2.10 keeps names like model_args for itself

    architecture: Annotated[str, Field(max_length=200)]
    num_classes: Annotated[int, Field(ge=0, le=MAX_WIDTH)]
    model_args: dict[str, _Argument | _Arguments]
    size: tuple[_Side, _Side]
    fixed_size: bool
    mean: tuple[_Number, _Number, _Number]
    std: tuple[_Deviation, _Deviation, _Deviation]


class TimmFace(FaceNetwork):
    """A timm network cut into stages.

    A plain ViT is cut into thirds of its blocks; a network that is a row of modules where its map shrinks; any other
    is one stage. Args: description: what `describe` gives.
    Attributes: description: plain values from which the same network is built again. names: our tensors' names to
    timm's.
    """

    def __init__(self, description: Mapping[str, Any]) -> None:
        super().__init__()
        self.description = _checked(description)
        self.skeleton = json.dumps(self.description).encode()
        rows, columns = self.description["size"]
        with Bounded(room(_num_bytes(self.description), rows, columns)):
            self._build()

    def _build(self) -> None:
        """Stages and head, from what an empty picture goes through."""
        description = self.description
        network = _create(description)
        rows, columns = description["size"]
        mean: list[float] = description["mean"]
        std: list[float] = description["std"]
        even = len({*mean}) == len({*std}) == 1
        # Statistics that differ between channels are applied here, since a FaceInput has one value for all.
        pixels = (255 * mean[0], 255 * std[0]) if even else (0.0, 255.0)
        self.input = FaceInput((rows, columns), mean=pixels[0], std=pixels[1])
        public = {id(value): key for key, value in network.state_dict(keep_vars=True).items()}
        image = torch.rand(1, 3, rows, columns, generator=torch.Generator().manual_seed(0))
        features, used = _features(network, image)
        try:
            self._features = feature_layout(network, features, (rows, columns))
        except ValueError as error:
            raise ModelError(f"timm's '{description['architecture']}' gives no patches: {error}") from error
        stages, self.head = _cut(network, used, image, features)
        if not even:
            stages[0] = nn.Sequential(_Standardize(mean, std), stages[0])
        self.stages = nn.ModuleList(stages)
        self.names = {key: public[id(value)] for key, value in self.state_dict(keep_vars=True).items()}
        lost = sorted(set(public.values()) - set(self.names.values()))
        if lost:
            raise ModelError(
                f"timm's '{description['architecture']}' cannot be cut into stages and head ({lost[0]})"
            )
        self.measure()

    def patches(self, output: Tensor) -> Tensor:
        return self._features.patches(output)

    def _map_shape(self, output: Tensor) -> tuple[int, int, int]:
        if self._features.axes == "NLC":
            return int(output.shape[2]), *self._features.grid
        if self._features.axes == "NHWC":
            return int(output.shape[3]), int(output.shape[1]), int(output.shape[2])
        return super()._map_shape(output)


def describe(source: str | Path) -> dict[str, Any]:
    """What a config.json says of a network, as plain values: architecture, arguments, size, mean and deviation.

    Args: source: `hf_hub:owner/name`, a folder, or a weights file beside its config.json.
    """
    path = (
        _hub_file(str(source), ("config.json",))
        if str(source).startswith(HUB)
        else _folder(source) / "config.json"
    )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        pixels = config.get("pretrained_cfg", config)
        described: dict[str, Any] = {
            "architecture": str(config["architecture"]),
            "num_classes": int(config.get("num_classes", pixels.get("num_classes", 0))),
            "model_args": dict(config.get("model_args", {})),
            "size": [int(side) for side in pixels["input_size"][1:]],
            "fixed_size": bool(pixels.get("fixed_input_size", False)),
            "mean": [float(value) for value in pixels["mean"]],
            "std": [float(value) for value in pixels["std"]],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(f"{path}: not the config.json of a timm network ({reason})") from error
    if described["num_classes"] >= 1000:
        logger.warning(
            "%s: its classifier has %d outputs and is taken for the embedding; a face network in timm's format has "
            "the embedding there (often 512)", source, described["num_classes"],
        )  # fmt: skip
    return described


def described_by(skeleton: bytes, max_bytes: int) -> dict[str, Any]:
    """A description from a checkpoint. ModelError if it is none, or its weights would take more than `max_bytes`."""
    try:
        description = _checked(json.loads(skeleton))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the description of a face network is damaged ({type(error).__name__})") from error
    num_bytes = _num_bytes(description)
    if num_bytes > max_bytes:
        raise ModelError(
            f"a face network's description asks for {num_bytes} bytes, its weights are {max_bytes}"
        )
    return description


def _checked(description: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values within bounds. ModelError, in one line, for others."""
    try:
        return _Description.model_validate(description).model_dump()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise ModelError(
            f"the description of a face network is damaged ({'.'.join(map(str, first['loc']))[:80]}: {first['msg']})"
        ) from None


def _num_bytes(description: Mapping[str, Any]) -> int:
    """Of the network's weights. ModelError for a description that timm cannot follow."""
    try:
        with outlining():
            outline = _create(description)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(f"the description of a face network is damaged ({type(error).__name__})") from error
    return sum(value.numel() * value.element_size() for value in outline.state_dict().values())


def weights_file(source: str | Path) -> Path:
    """The file with the weights of a folder or a name on the hub."""
    if str(source).startswith(HUB):
        return _hub_file(str(source), _WEIGHTS)
    path = Path(str(source).removeprefix("local-dir:"))
    if path.is_file():
        return path
    found = [path / name for name in _WEIGHTS if (path / name).is_file()]
    if not found:
        raise ModelError(f"{path}: neither {' nor '.join(_WEIGHTS)} is there")
    return found[0]


def _folder(source: str | Path) -> Path:
    path = Path(str(source).removeprefix("local-dir:"))
    folder = path.parent if path.is_file() else path
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{path}: no config.json beside the weights; a network in timm's format needs it. Give its folder, or "
            "name the layout in model.backbone"
        )
    return folder


def _hub_file(source: str, names: tuple[str, ...]) -> Path:
    """The first of some files on the hub that is there; from the cache where it is, without asking the network."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = source.split(":", 1)[1].partition("@")
    for name in names:
        cached = try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    need_hub(repository)
    try:
        with hub_allowed():
            for name in names:
                try:
                    return Path(hf_hub_download(repository, name, revision=revision or None))
                except EntryNotFoundError:
                    continue
    except Exception as error:
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise ModelError(
            f"'{source}' could not be fetched ({type(error).__name__}: {reason}). Set model.pretrained to a folder "
            "with its config.json and weights"
        ) from error
    raise ModelError(f"'{source}' has neither {' nor '.join(names)}")


def _create(description: Mapping[str, Any]) -> Any:
    name, arguments = str(description["architecture"]), dict(description["model_args"])
    if not timm.is_model(name):
        raise ModelError(f"timm {timm.__version__} has no architecture '{name}'; a newer one may have it")
    refused = sorted(_FACTORY.intersection(arguments))
    if refused:
        raise ModelError(
            f"the description of '{name}' sets {', '.join(refused)}, which is no part of a network"
        )
    if description["fixed_size"]:
        arguments.setdefault("img_size", tuple(description["size"]))
    try:
        return timm.create_model(name, pretrained=False, num_classes=description["num_classes"], **arguments)
    except Exception as error:
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise ModelError(f"timm cannot build '{name}' with {arguments} ({reason})") from error


class _Standardize(nn.Module):
    """Channel-wise (x − mean) / std of pixels in [0, 1]."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, images: Tensor) -> Tensor:
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std


class _Part(nn.Module):
    """Some of a timm network's modules, run by one of its methods."""

    def __init__(self, network: Any, keep: set[str], parameters: bool) -> None:
        super().__init__()
        # Another object of the same class with the same settings, but only these modules and parameters.
        shell: Any = object.__new__(type(network))
        shell.__dict__.update(network.__dict__)
        shell._modules = {name: module for name, module in network._modules.items() if name in keep}
        shell._parameters = dict(network._parameters) if parameters else dict.fromkeys(network._parameters)
        shell._buffers = dict(network._buffers) if parameters else dict.fromkeys(network._buffers)
        self.net: Any = shell


class _ViTStem(_Part):
    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.net.norm_pre(self.net.patch_drop(self.net._pos_embed(self.net.patch_embed(images))))
        return x


class _ViTHead(_Part):
    def forward(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.net.forward_head(self.net.norm(tokens))
        return x


class _Body(_Part):
    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.net.forward_features(images)
        return x


class _Head(_Part):
    def forward(self, features: Tensor) -> Tensor:
        x: Tensor = self.net.forward_head(features)
        return x


def _cut(network: Any, used: set[str], image: Tensor, features: Tensor) -> tuple[list[nn.Module], nn.Module]:
    """Stages and head. `used` are the modules and parameters that the `features` of `image` depend on."""
    if type(network) is VisionTransformer:
        return _cut_vit(network)
    empty = {name for name, module in network._modules.items() if not list(module.parameters())}
    head = _Head(network, set(network._modules) - used, parameters=False)
    row = _row(network, used, image, features)
    return (row, head) if row else ([_Body(network, used | empty, parameters=True)], head)


def _cut_vit(vit: Any, num_stages: int = 3) -> tuple[list[nn.Module], nn.Module]:
    blocks = list(vit.blocks)
    step = -(-len(blocks) // num_stages)
    stages: list[nn.Module] = [nn.Sequential(*blocks[at : at + step]) for at in range(0, len(blocks), step)]
    stem = _ViTStem(vit, {"patch_embed", "pos_drop", "patch_drop", "norm_pre"}, parameters=True)
    stages[0] = nn.Sequential(stem, stages[0])
    return stages, _ViTHead(vit, {"norm", "attn_pool", "fc_norm", "head_drop", "head"}, parameters=False)


def _features(network: Any, image: Tensor) -> tuple[Tensor, set[str]]:
    """A network's features, and the names of its modules and parameters that they depend on."""
    network.eval()
    with torch.enable_grad():
        features = network.forward_features(image)
    parameters = list(network.named_parameters())
    gradients = torch.autograd.grad(features.sum(), [value for _, value in parameters], allow_unused=True)
    used = (name for (name, _), gradient in zip(parameters, gradients, strict=True) if gradient is not None)
    return features.detach(), {name.split(".")[0] for name in used}


def _row(network: Any, used: set[str], image: Tensor, features: Tensor) -> list[nn.Module]:
    """Modules one after another that give these features, in stages of one map size; empty if that is not all."""
    names = list(network._modules)
    if not used.issubset(names):  # some of its parameters are in no module
        return []
    units: list[nn.Module] = []
    for name in names[: 1 + max(names.index(name) for name in used)]:
        module = network._modules[name]
        units += list(module) if type(module) is nn.Sequential else [module]
    stages: list[list[nn.Module]] = []
    size: tuple[int, ...] = ()
    try:
        with torch.no_grad():
            x = image
            for unit in units:
                x = unit(x)
                now = _side(network, x)
                if not stages or now != size:
                    stages.append([])
                size = now
                stages[-1].append(unit)
    except Exception:  # a module that takes more than its predecessor's output: not a row
        return []
    same = x.shape == features.shape and torch.allclose(x, features, atol=1e-5)
    return [nn.Sequential(*stage) for stage in stages] if same else []


def _side(network: Any, x: Tensor) -> tuple[int, ...]:
    if x.ndim != 4:
        return (x.shape[1],)
    return tuple(x.shape[1:3] if getattr(network, "output_fmt", "") == "NHWC" else x.shape[2:])
