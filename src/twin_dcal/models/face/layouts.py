"""Public layouts of face networks, and the strict loading of files that follow them."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from twin_dcal.errors import ModelError

from . import adaface, iresnet
from .network import FaceInput, FaceNetwork
from .weights import read_tensors, some

logger = logging.getLogger(__name__)

Shapes = Mapping[str, tuple[int, ...]]

_PREFIXES = ("", "module.", "model.", "backbone.", "net.", "features.", "encoder.", "student.", "teacher.")
"""What training programs put before the names of a network's tensors, once or twice."""

_COUNTER = "num_batches_tracked"
"""A counter of batch norms that embeddings do not depend on; files of torch before 1.0 lack it."""


@dataclass(frozen=True)
class Layout:
    """A network as somebody publishes it.

    build: the network with random weights. public_name: of one of our tensors, its name in the published files.
    spare: beginnings of names of tensors beside the embedding, such as a classifier. source: where it is described.
    """

    name: str
    build: Callable[[], FaceNetwork]
    public_name: Callable[[str], str]
    source: str
    spare: tuple[str, ...] = ()

    def names(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Published name to (our name, shape) of every tensor."""
        with torch.device("meta"):
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


def load_face_network(kind: str, path: str | Path) -> FaceNetwork:
    """The network of layout `kind` with the weights of a file, every tensor accounted for.

    ModelError, in one line: unknown layout, unreadable file, weights of another network (which ones are named).
    """
    layout = layout_of(kind)
    weights = read_tensors(path)
    return load(layout, weights, str(path))


def build_face_network(kind: str) -> FaceNetwork:
    """The network of layout `kind` with random weights, to be filled from a checkpoint of ours."""
    return layout_of(kind).build()


def layout_of(kind: str) -> Layout:
    """A layout by name. ModelError names those that are close."""
    if kind in LAYOUTS:
        return LAYOUTS[kind]
    close = get_close_matches(kind, LAYOUTS, 5, 0.4) or sorted(LAYOUTS)
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
        "loaded %d tensors of '%s' from %s%s", len(shapes) - len(fit.spare), layout.name, origin, told
    )
    return network.eval()


def fit_to(names: Mapping[str, tuple[str, tuple[int, ...]]], spare: tuple[str, ...], shapes: Shapes) -> Fit:
    """The best fit over the prefixes that names may begin with; no prefix if several are equal."""
    fits = [_fit(prefix, names, spare, shapes) for prefix in _candidate_prefixes(shapes)]
    return max(fits, key=lambda fit: (fit.exact, fit.share, -len(fit.prefix)))


def resembling(shapes: Shapes) -> str:
    """A sentence on the layouts that these tensors suit best, or an empty string."""
    shares = {name: fit_to(names, layout.spare, shapes).share for name, (layout, names) in _known().items()}
    best = sorted((name for name in shares if shares[name] > 0.2), key=lambda name: -shares[name])[:3]
    if not best:
        return " They resemble none of the layouts in docs/face_networks.md."
    return f" They resemble {', '.join(f'{name} ({100 * shares[name]:.0f} % fit)' for name in best)}."


@cache
def _known() -> dict[str, tuple[Layout, dict[str, tuple[str, tuple[int, ...]]]]]:
    return {name: (layout, layout.names()) for name, layout in LAYOUTS.items()}


def _candidate_prefixes(shapes: Shapes) -> list[str]:
    both = dict.fromkeys(first + second for first in _PREFIXES for second in _PREFIXES)
    return [prefix for prefix in both if not prefix or any(key.startswith(prefix) for key in shapes)]


def _fit(
    prefix: str, names: Mapping[str, tuple[str, tuple[int, ...]]], spare: tuple[str, ...], shapes: Shapes
) -> Fit:
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
        parts.append(f"{len(fit.missing)} tensors are missing ({some(fit.missing)})")
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
    )


def _adaface(layers: int, name: str, face_input: FaceInput, source: str) -> Layout:
    depths = iresnet.DEPTHS[layers]
    return Layout(
        name,
        partial(iresnet.IResNet, depths, pooled=True, scaled=False, face_input=face_input),
        partial(adaface.public_name, depths=depths),
        source,
        ("head.",),
    )


def _all() -> dict[str, Layout]:
    layouts = [_arcface(layers) for layers in iresnet.DEPTHS]
    for layers, number in ((18, 18), (34, 34), (50, 50), (100, 101)):
        bgr = FaceInput(channels="bgr")
        layouts.append(_adaface(layers, f"adaface_ir{number}", bgr, "github.com/mk-minchul/AdaFace net.py"))
    return {layout.name: layout for layout in layouts}


LAYOUTS: dict[str, Layout] = _all()
"""Every layout by the name that `model.backbone` takes."""
