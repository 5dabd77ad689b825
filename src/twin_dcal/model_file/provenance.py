"""What a model file says about the faces its model was trained on, in words. No torch here."""

from collections.abc import Mapping
from typing import Any

DRAWN = "drawn"
"""`training["faces"]` of a model whose training images were all drawn by dcal-synth."""

FACE_NETWORK, OTHER_MODEL = "face network", "other model"
"""`training["start"]` of a model that knew faces before it was trained on these."""


def training_warnings(training: Mapping[str, Any]) -> tuple[str, ...]:
    """Warnings, none for a model trained on photographs or by a release that did not say."""
    if training.get("faces") != DRAWN:
        return ()
    if training.get("start") in (FACE_NETWORK, OTHER_MODEL):
        return (
            f"the model was trained further, from {_A[training['start']]}, on drawn faces (SynTwins) alone: its "
            "threshold and error rates hold for drawn faces, not for real ones",
        )
    return (
        "the model was trained on drawn faces (SynTwins) alone and knows no real face: decisions on photographs of "
        "people mean nothing",
    )


def attention_warnings(training: Mapping[str, Any]) -> tuple[str, ...]:
    """A warning about maps of attention, for a face network that no step has changed."""
    if training.get("start") != FACE_NETWORK or training.get("step") != 0:
        return ()
    return (
        "the model is the face network as it was: the attention that is shown belongs to blocks that were never "
        "trained and do not reach the score",
    )


def trained_on(training: Mapping[str, Any]) -> dict[str, Any]:
    """The part of it that warnings are from, for files of features, which keep it under their model."""
    return {name: training[name] for name in ("faces", "start") if name in training}


def model_warnings(model: object) -> tuple[str, ...]:
    """Warnings, from what a file of features says of its model; none where it says nothing that is known."""
    told = model.get("trained_on") if isinstance(model, Mapping) else None
    return training_warnings(told) if isinstance(told, Mapping) else ()


_A = {FACE_NETWORK: "a face network", OTHER_MODEL: "an earlier model"}
