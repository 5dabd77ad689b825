"""Which maps the page offers for an engine, and how making them is broken off."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from twin_dcal.inference.aligning import Prepared
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.inference.result import VerificationResult

from .decision import Explains
from .queue import stop_if_dropped
from .schemas import Maps


def explanations(engine: TwinInferenceEngine) -> Explains:
    """Maps of `twin_dcal.explain` for a model run by torch; none for an exported one, which only embeds, and for a face
    network alone, which attends to nothing."""
    if engine.source.format != "torch":
        return {}
    from twin_dcal.explain.attention import attends
    from twin_dcal.inference.torch_backend import TorchBackend

    assert isinstance(engine.backend, TorchBackend)
    if not attends(engine.backend.model):
        return {}
    regions_count = engine.backend.model.glca_pool == "local"
    return {"attention": partial(_attention, engine, regions_count), "pair": partial(_pair, engine)}


@contextmanager
def stoppable(engine: TwinInferenceEngine) -> Iterator[None]:
    """While the block lasts, a dropped job ends at the next layer of the network. Exported models run to their end."""
    model = getattr(engine.backend, "model", None)
    leaves = (
        [] if model is None else [part for part in model.modules() if not any(True for _ in part.children())]
    )
    hooks = [part.register_forward_pre_hook(_stop_if_dropped) for part in leaves]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _stop_if_dropped(module: object, inputs: object) -> None:
    stop_if_dropped()


def _attention(
    engine: TwinInferenceEngine, regions_count: bool, one: Prepared, two: Prepared
) -> tuple[VerificationResult, Maps]:
    result, found = engine.verify_with_attention(one, two)
    rollout, glca, chosen = (
        None if maps is None else tuple(maps.tolist())
        for maps in (found.rollout, found.glca, found.glca_chosen)
    )
    return result, Maps(
        rollout=rollout, glca_attention=glca, glca_regions=chosen,
        regions_count=chosen is not None and regions_count,
    )  # fmt: skip


def _pair(engine: TwinInferenceEngine, one: Prepared, two: Prepared) -> tuple[VerificationResult, Maps]:
    explanation = engine.explain(one.pixels, two.pixels)
    return engine.decide(one, two), Maps.of_explanation(explanation.to_dict())
