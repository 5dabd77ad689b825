"""Public layouts of face networks, and the strict loading of files that follow them."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from twin_dcal.errors import ModelError
from twin_dcal.models.fitting import outlining
from twin_dcal.plural import plural

from . import adaface, inception_resnet, iresnet, timm_face, vit
from .network import FaceInput, FaceNetwork
from .weights import read_tensors, some

logger = logging.getLogger(__name__)

Shapes = Mapping[str, tuple[int, ...]]
Names = Mapping[str, tuple[str, tuple[int, ...]]]
"""Published name to (our name, shape)."""

_PREFIXES = ("", "module.", "model.", "backbone.", "net.", "features.", "encoder.", "student.", "teacher.")
"""What training programs put before the names of a network's tensors, once or twice."""

TIMM = "timm"
"""The kind whose layout a config.json tells."""

_TIMM = {
    "blocks.0.attn.qkv.weight": (
        "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224",
        "vit_small_patch14_dinov2", "vit_base_patch14_dinov2", "vit_small_patch16_dinov3", "vit_base_patch16_dinov3",
    ),
    "stages.0.blocks.0.conv_dw.weight": ("convnext_atto", "convnext_nano", "convnext_tiny", "convnext_base"),
    "layer1.0.conv1.weight": ("resnet18", "resnet34", "resnet50", "resnet101"),
    "blocks.0.0.conv_dw.weight": ("mobilenetv3_large_100", "efficientnet_b0"),
    "layers.0.blocks.0.attn.qkv.weight": ("swin_tiny_patch4_window7_224", "swin_base_patch4_window7_224"),
}  # fmt: skip
"""Networks of timm that a wrong file is compared with, those whose weights go around most, by a tensor they have."""

_PACKS = {
    "antelopev2": "glintr100.onnx", "buffalo_l": "w600k_r50.onnx", "buffalo_m": "w600k_r50.onnx",
    "buffalo_s": "w600k_mbf.onnx", "buffalo_sc": "w600k_mbf.onnx",
}  # fmt: skip
"""InsightFace's packs, and the file in each that is its recognition network."""

_ALIASES = {
    "r18": "iresnet18", "r34": "iresnet34", "r50": "iresnet50", "r100": "iresnet100", "r200": "iresnet200",
    "facenet": "inceptionresnetv1", "ir100": "ir101",
}  # fmt: skip

_COUNTER = "num_batches_tracked"
"""A counter of batch norms that embeddings do not depend on; files of torch before 1.0 lack it."""


@dataclass(frozen=True)
class Layout:
    """A network as somebody publishes it.

    build: the network with random weights. public_name: of one of our tensors, its name in the published files.
    mark: a published name that other kinds of network lack. spare: beginnings of names of tensors beside the embedding,
    such as a classifier. source: where it is described.
    """

    name: str
    build: Callable[[], FaceNetwork]
    public_name: Callable[[str], str]
    source: str
    mark: str
    spare: tuple[str, ...] = ()

    def names(self) -> Names:
        """Published name to (our name, shape) of every tensor."""
        with outlining():
            outline = self.build().state_dict()
        return {self.public_name(key): (key, tuple(value.shape)) for key, value in outline.items()}


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file suit a layout, once `prefix` is taken off their names.

    share: tensors that suit by name and shape, of all in either.
    """

    prefix: str
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    misshapen: tuple[str, ...]
    spare: tuple[str, ...]
    share: float

    @property
    def exact(self) -> bool:
        return not (self.missing or self.left_over or self.misshapen)


def load_face_network(kind: str, source: str | Path) -> FaceNetwork:
    """The network of layout `kind` with the weights of a file, every tensor accounted for.

    Args: kind: a name in LAYOUTS, or 'timm' for a network in timm's format. source: the weights file; for 'timm' a
    folder with its config.json and weights, or `hf_hub:owner/name`, which asks the network where the cache lacks it.
    ModelError, in one line: unknown layout, unreadable file, weights of another network (which ones are named).
    """
    if kind == TIMM:
        try:
            layout = _timm(timm_face.describe(source))
        except ModelError as error:
            raise ModelError(f"{error}{alike(source)}") from error
        return load(layout, read_tensors(timm_face.weights_file(source)), str(source))
    return load(layout_of(kind), read_tensors(source), str(source))


def build_face_network(kind: str, description: Mapping[str, Any] | None = None) -> FaceNetwork:
    """The network of layout `kind` with random weights, to be filled from a checkpoint of ours.

    Args: description: of a network in timm's format, its `TimmFace.description`.
    """
    if kind == TIMM:
        if description is None:
            raise ModelError(
                "a face network in timm's format is built from its description, which is missing"
            )
        return timm_face.TimmFace(description)
    return layout_of(kind).build()


def hint(name: str) -> str:
    """What to set instead of a backbone that is none of timm's, where it looks like a face network; or nothing."""
    if name.endswith(".onnx"):
        return "; for an ONNX file set model.backbone to onnx and model.pretrained to the file"
    if name in _PACKS:
        return f"; for the pack {name} set model.backbone to onnx and model.pretrained to its {_PACKS[name]}"
    if Path(name).exists():
        return "; model.backbone names the layout (docs/face_networks.md), model.pretrained the file"
    plain = name.lower().replace("_", "").replace("-", "")
    close = [kind for kind in LAYOUTS if _ALIASES.get(plain, plain) in kind.replace("_", "")]
    return f"; face networks: {', '.join(close)}" if len(plain) > 2 and close else ""


def layout_of(kind: str) -> Layout:
    """A layout by name. ModelError names those that are close."""
    if kind in LAYOUTS:
        return LAYOUTS[kind]
    close = get_close_matches(kind, [*LAYOUTS, TIMM], 5, 0.4) or sorted([*LAYOUTS, TIMM])
    raise ModelError(f"no face network layout '{kind}'; did you mean {' or '.join(close)}?")


def load(layout: Layout, weights: Mapping[str, Tensor], origin: str) -> FaceNetwork:
    """The network with these weights. `origin` names them in messages. ModelError if a tensor does not fit."""
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    names = layout.names()
    fit = fit_to(names, layout.spare, shapes)
    if not fit.exact:
        raise ModelError(
            f"{origin}: not weights of '{layout.name}': {_differences(fit)}.{resembling(shapes)}"
        )
    network = layout.build()
    own = network.state_dict()
    own |= {
        ours: weights[fit.prefix + public]
        for public, (ours, _) in names.items()
        if fit.prefix + public in shapes
    }
    network.load_state_dict(own, strict=True)
    told = f"; '{fit.prefix}' taken off their names" if fit.prefix else ""
    told += f"; {len(fit.spare)} beside the embedding left out ({some(fit.spare)})" if fit.spare else ""
    logger.info(
        "loaded %s of '%s' from %s%s",
        plural(len(shapes) - len(fit.spare), "tensor"),
        layout.name,
        origin,
        told,
    )
    return network.eval()


def fit_to(names: Names, spare: tuple[str, ...], shapes: Shapes) -> Fit:
    """The best fit over the prefixes that names may begin with; no prefix if several are equal."""
    fits = [_fit(prefix, names, spare, shapes) for prefix in _candidate_prefixes(shapes)]
    return max(fits, key=lambda fit: (fit.exact, fit.share, -len(fit.prefix)))


def resembling(shapes: Shapes) -> str:
    """A sentence on the layouts and timm networks that these tensors suit best, or that they suit none."""
    shares = {name: fit_to(names, spare, shapes).share for name, names, spare in _candidates(shapes)}
    best = sorted((name for name in shares if shares[name] > 0.3), key=lambda name: -shares[name])[:3]
    if not best:
        return " They resemble none of the layouts in docs/face_networks.md."
    return f" They resemble {', '.join(f'{name} ({100 * shares[name]:.0f} % fit)' for name in best)}."


def alike(source: str | Path) -> str:
    """`resembling` of a weights file that was taken for something else; nothing for what is no such file."""
    if not Path(source).is_file():
        return ""
    try:
        weights = read_tensors(source)
    except ModelError:
        return ""
    return "." + resembling({key: tuple(value.shape) for key, value in weights.items()})


def _candidates(shapes: Shapes) -> Iterator[tuple[str, Names, tuple[str, ...]]]:
    """Name, tensors and what is beside the embedding of each network that has a tensor of the table's."""

    def has(mark: str) -> bool:
        return any(key.endswith(mark) for key in shapes)

    for name, layout in LAYOUTS.items():
        if has(layout.mark):
            yield name, layout.names(), layout.spare
    for mark, names in _TIMM.items():
        for name in names if has(mark) else ():
            with outlining():
                network = timm.create_model(name)
            table = {key: (key, tuple(value.shape)) for key, value in network.state_dict().items()}
            classifier = f"{network.pretrained_cfg['classifier']}."
            kept = {key: value for key, value in table.items() if not key.startswith(classifier)}
            yield f"timm's {name}", kept, (classifier,)


def _candidate_prefixes(shapes: Shapes) -> list[str]:
    both = dict.fromkeys(first + second for first in _PREFIXES for second in _PREFIXES)
    return [prefix for prefix in both if not prefix or any(key.startswith(prefix) for key in shapes)]


def _fit(prefix: str, names: Names, spare: tuple[str, ...], shapes: Shapes) -> Fit:
    inside = {key[len(prefix) :]: shape for key, shape in shapes.items() if key.startswith(prefix)}
    beside = [key for key in shapes if not key.startswith(prefix)]
    beside += [prefix + key for key in inside if key not in names]
    unused = tuple(key for key in beside if key.removeprefix(prefix).startswith(spare or ("\0",)))
    left_over = tuple(key for key in beside if key not in set(unused))
    missing = tuple(key for key in names if key not in inside and not key.endswith(_COUNTER))
    misshapen = tuple(
        f"{key} {list(inside[key])} for {list(shape)}"
        for key, (_, shape) in names.items() if inside.get(key, shape) != shape
    )  # fmt: skip
    suit = sum(1 for key, (_, shape) in names.items() if inside.get(key) == shape)
    total = suit + len(missing) + len(left_over) + len(misshapen)
    return Fit(prefix, missing, left_over, misshapen, unused, suit / total if total else 0.0)


def _differences(fit: Fit) -> str:
    parts = []
    if fit.missing:
        parts.append(f"{plural(len(fit.missing), 'tensor is', 'tensors are')} missing ({some(fit.missing)})")
    if fit.left_over:
        parts.append(f"{len(fit.left_over)} are left over ({some(fit.left_over)})")
    if fit.misshapen:
        parts.append(f"{len(fit.misshapen)} have another shape ({some(fit.misshapen)})")
    return ", ".join(parts)


def _arcface(layers: int) -> Layout:
    return Layout(
        f"iresnet{layers}",
        partial(iresnet.IResNet, iresnet.DEPTHS[layers]),
        iresnet.public_name,
        "github.com/deepinsight/insightface recognition/arcface_torch/backbones/iresnet.py",
        "layer1.0.prelu.weight",
    )


def _adaface(layers: int, name: str, face_input: FaceInput, source: str) -> Layout:
    depths = iresnet.DEPTHS[layers]
    return Layout(
        name,
        partial(iresnet.IResNet, depths, pooled=True, scaled=False, face_input=face_input),
        partial(adaface.public_name, depths=depths),
        source,
        "body.0.res_layer.0.weight",
        ("head.",),
    )


def _vit(
    name: str, source: str, patch_size: int, width: int, depth: int, num_heads: int, mlp_ratio: int
) -> Layout:
    build = partial(
        vit.FaceViT, patch_size=patch_size, width=width, depth=depth, num_heads=num_heads, mlp_ratio=mlp_ratio
    )
    # The token that stands for hidden patches is used in training from scratch only.
    return Layout(
        name,
        build,
        partial(vit.public_name, depth=depth),
        source,
        "feature.0.weight",
        ("mask_token", "head."),
    )


def _timm(description: Mapping[str, Any]) -> Layout:
    network = timm_face.TimmFace(description)
    names = network.names
    return Layout(
        f"{description['architecture']} in timm's format", lambda: network, names.__getitem__, "timm", "head."
    )


def _all() -> dict[str, Layout]:
    layouts = [_arcface(layers) for layers in iresnet.DEPTHS]
    for layers, number in ((18, 18), (34, 34), (50, 50), (100, 101)):
        bgr = FaceInput(channels="bgr")
        layouts.append(_adaface(layers, f"adaface_ir{number}", bgr, "github.com/mk-minchul/AdaFace net.py"))
    for layers, number in ((18, 18), (50, 50), (100, 101)):
        source = "github.com/mk-minchul/CVLface models/iresnet/model.py"
        layouts.append(_adaface(layers, f"cvlface_ir{number}", FaceInput(), source))
    facenet = "github.com/timesler/facenet-pytorch models/inception_resnet_v1.py"
    build = inception_resnet.InceptionResnetV1
    spare = ("logits.",)
    mark = "conv2d_1a.conv.weight"
    layouts.append(Layout("inception_resnet_v1", build, inception_resnet.public_name, facenet, mark, spare))
    source = "github.com/deepinsight/insightface recognition/arcface_torch/backbones/vit.py"
    layouts += [
        _vit(f"arcface_vit_{size}", source, 9, width, depth, 8, 4)
        for size, width, depth in (("t", 256, 12), ("s", 512, 12), ("b", 512, 24), ("l", 768, 24))
    ]
    source = "github.com/mk-minchul/CVLface models/vit/vit.py"
    layouts.append(_vit("cvlface_vit_small", source, 8, 512, 12, 8, 5))
    layouts.append(_vit("cvlface_vit_base", source, 8, 512, 24, 16, 3))
    return {layout.name: layout for layout in layouts}


LAYOUTS: dict[str, Layout] = _all()
"""Every layout by the name that `model.backbone` takes."""
