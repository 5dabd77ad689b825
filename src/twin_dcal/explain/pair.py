"""`explain_pair`: every map of one pair, and the regions of the two pictures that go together."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twin_dcal.data.fit import sides
from twin_dcal.errors import ConfigError
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.models.preprocessing import Preprocessing

from .attention import attention_maps, refuse_without_attention
from .attribution import Hidden, hide_cells, integrated_gradients
from .result import Match, PairExplanation

Method = Literal["combined", "occlusion", "gradients"]

METHODS: tuple[Method, ...] = get_args(Method)
DEFAULT: Method = "combined"
GRID = 8
NUM_STEPS = 8
NUM_MATCHES = 6

Pixels = NDArray[np.uint8]
Maps = NDArray[np.float32]


class Explainable(Protocol):
    """A loaded model in evaluation mode: a `LoadedModel`, or the torch backend of an engine."""

    @property
    def model(self) -> DCALVerificationModel: ...

    @property
    def preprocessing(self) -> Preprocessing: ...


def explain_pair(
    source: Explainable,
    pixels1: Pixels,
    pixels2: Pixels,
    *,
    method: Method = DEFAULT,
    num_matches: int = NUM_MATCHES,
) -> PairExplanation:
    """Why the cosine of two pictures is what it is.

    Args: pixels: (H, W, 3) uint8 of the model's image size, as `TwinInferenceEngine.prepare` gives them; method:
    "occlusion" embeds 130 pictures, "gradients" runs 16 forward and backward, "combined" is the mean of both;
    num_matches: at most so many regions are joined, 0 for none (with "gradients" they cost the 130 embeddings again).
    The same input gives the same maps; nothing of the model changes. ConfigError: a model that only embeds (an exported
    one) or attends to nothing (a face network alone), an unknown method, pictures of another size.
    """
    for pixels in (pixels1, pixels2):
        if not isinstance(pixels, np.ndarray):
            raise ConfigError(
                f"explanations take pixels, given: a {type(pixels).__name__}; prepare them with "
                "TwinInferenceEngine.prepare"
            )
    return explain_pairs(source, pixels1[None], pixels2[None], method=method, num_matches=num_matches)[0]


def explain_pairs(
    source: Explainable, pixels1: NDArray[np.uint8], pixels2: NDArray[np.uint8], *, method: Method = DEFAULT,
    num_matches: int = NUM_MATCHES,
) -> list[PairExplanation]:  # fmt: skip
    """`explain_pair` of P pairs, (P, H, W, 3) each."""
    model = _model_of(source)
    if method not in METHODS:
        raise ConfigError(f"explanation method '{method}' is unknown; use {' or '.join(METHODS)}")
    refuse_without_attention(model)
    _check_size(model, pixels1, pixels2)
    with torch.inference_mode(False):
        return [
            _explained(model, normalized(source, np.stack(pair)), method, num_matches)
            for pair in zip(pixels1, pixels2, strict=True)
        ]


def normalized(source: Explainable, pixels_BSSC: NDArray[np.uint8]) -> Tensor:
    """(B, 3, rows, columns) on the model's device: what the network takes."""
    device = next(source.model.parameters()).device
    return source.preprocessing.normalize(torch.tensor(pixels_BSSC).permute(0, 3, 1, 2).to(device))


def attributions(model: DCALVerificationModel, pair: Tensor) -> dict[str, Maps]:
    """Signed maps (2, G, G) of a normalised pair (2, 3, rows, columns), by every method."""
    occlusion, gradients = _by_occlusion(hide_cells(model.embed, pair, GRID)), _by_gradients(model, pair)
    return {"combined": _mean(occlusion, gradients), "occlusion": occlusion, "gradients": gradients}


def _explained(
    model: DCALVerificationModel, pair: Tensor, method: Method, num_matches: int
) -> PairExplanation:
    hidden = hide_cells(model.embed, pair, GRID) if method != "gradients" or num_matches else None
    one, two = _attribution(model, pair, method, hidden)
    attended = attention_maps(model, pair)
    with torch.no_grad():
        shown = model.embed(pair) if hidden is None else hidden.shown
    chosen = _pair_of(attended.glca_chosen)
    return PairExplanation(
        similarity=float((shown[0] @ shown[1]).clamp(-1, 1)),
        method=method, attribution1=one, attribution2=two,
        **_named("rollout", _pair_of(attended.rollout)), **_named("glca", _pair_of(attended.glca)),
        **_named("glca_chosen", chosen),
        glca_uses_chosen=chosen[0] is not None and model.glca_pool == "local",
        matches=() if hidden is None else matched_regions(_array(hidden.interactions()), GRID, num_matches),
        metadata={"grid": GRID, "patches": list(model.backbone.grid), "branches": list(model.branches)},
    )  # fmt: skip


def _attribution(model: DCALVerificationModel, pair: Tensor, method: Method, hidden: Hidden | None) -> Maps:
    if method == "gradients":
        return _by_gradients(model, pair)
    assert hidden is not None
    occlusion = _by_occlusion(hidden)
    return occlusion if method == "occlusion" else _mean(occlusion, _by_gradients(model, pair))


def _by_occlusion(hidden: Hidden) -> Maps:
    return _array(hidden.shares().reshape(2, GRID, GRID))


def _by_gradients(model: DCALVerificationModel, pair: Tensor) -> Maps:
    return _array(integrated_gradients(model.embed, pair, GRID, NUM_STEPS))


def _mean(one: Maps, two: Maps) -> Maps:
    """Of two maps on one scale, that of their mean size; the result has no unit."""
    scaled = [map_ / (np.abs(map_).mean() or 1.0) for map_ in (one, two)]
    return np.asarray(np.mean(scaled, axis=0), np.float32)


def matched_regions(interactions_KK: NDArray[np.floating], grid: int, num_matches: int) -> tuple[Match, ...]:
    """Cells that are each other's strongest partner, in size of what they add to the cosine together.

    Args: interactions (K, K): see `Hidden.interactions`; rows are cells of the first picture. At most `num_matches`,
    strongest first, positive and negative ones alike.
    """
    strength = np.abs(interactions_KK)
    partner, back = strength.argmax(1), strength.argmax(0)
    mutual = [
        cell for cell in range(grid**2) if back[partner[cell]] == cell and strength[cell, partner[cell]] > 0
    ]
    mutual.sort(key=lambda cell: -strength[cell, partner[cell]])
    return tuple(
        Match(
            _place(cell, grid), _place(int(partner[cell]), grid), float(interactions_KK[cell, partner[cell]])
        )
        for cell in mutual[:num_matches]
    )


def _place(cell: int, grid: int) -> tuple[int, int]:
    return divmod(cell, grid)


def _model_of(source: Any) -> DCALVerificationModel:
    model = getattr(source, "model", None)
    if not isinstance(model, DCALVerificationModel):
        told = getattr(getattr(source, "source", None), "path", "this model")
        raise ConfigError(
            f"{told}: an exported model only embeds; explanations need the run's best_model.pth"
        )
    return model


def _check_size(model: DCALVerificationModel, *pictures: NDArray[np.uint8]) -> None:
    rows, columns = sides(model.image_size)
    for pixels in pictures:
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (rows, columns, 3):
            raise ConfigError(
                f"explanations take {rows}x{columns} uint8 RGB pictures, given: {pixels.dtype} {pixels.shape[1:]}; "
                "prepare them with TwinInferenceEngine.prepare"
            )


def _array(values: Tensor) -> NDArray[Any]:
    return np.asarray(values.detach().float().cpu().numpy())


def _pair_of(maps_2hw: Tensor | None) -> Sequence[NDArray[Any] | None]:
    return (None, None) if maps_2hw is None else tuple(maps_2hw.cpu().numpy())


def _named(name: str, pair: Sequence[Any]) -> dict[str, Any]:
    return {f"{name}{number}": value for number, value in enumerate(pair, start=1)}
