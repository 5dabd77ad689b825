"""Which maps the page offers for an engine."""

from functools import partial
from typing import TYPE_CHECKING

from twin_dcal.inference.engine import TwinInferenceEngine

from .judging import Explains, Pixels
from .schemas import Maps

if TYPE_CHECKING:
    from twin_dcal.explain.pair import Explainable


def explanations(engine: TwinInferenceEngine) -> Explains:
    """Maps of `twin_dcal.explain` for a model run by torch; none for an exported one, which only embeds."""
    if engine.source.format != "torch":
        return {}
    from twin_dcal.inference.torch_backend import TorchBackend

    assert isinstance(engine.backend, TorchBackend)
    return {"attention": partial(_attention, engine.backend), "pair": partial(_pair, engine.backend)}


def _attention(source: "Explainable", one: Pixels, two: Pixels) -> Maps:
    import numpy as np

    from twin_dcal.explain.attention import attention_maps
    from twin_dcal.explain.pair import normalized

    found = attention_maps(source.model, normalized(source, np.stack([one, two])))
    rollout, glca, chosen = (
        None if maps is None else tuple(maps.tolist())
        for maps in (found.rollout, found.glca, found.glca_chosen)
    )
    return Maps(
        rollout=rollout, glca_attention=glca, glca_regions=chosen,
        regions_count=chosen is not None and source.model.glca_pool == "local",
    )  # fmt: skip


def _pair(source: "Explainable", one: Pixels, two: Pixels) -> Maps:
    from twin_dcal.explain.pair import explain_pair

    return Maps.of_explanation(explain_pair(source, one, two).to_dict())
