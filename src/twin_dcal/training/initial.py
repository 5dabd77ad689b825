"""The model that training starts from: pretrained weights, or those of an earlier model of ours."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from twin_dcal.checkpoint import MODEL_NAME, read_model_content, skeleton_of
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ModelError
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.plural import plural

logger = logging.getLogger(__name__)

_GEOMETRY = (
    "model.backbone", "model.attention_dim", "model.num_heads", "model.num_blocks", "model.feature_strides",
    "model.face_template", "model.face_pixels", "data.image_size",
)  # fmt: skip
"""Keys that say what the weights mean; they must be the same in both models."""


def initial_model(config: TwinVerificationConfig, *, with_weights: bool = True) -> DCALVerificationModel:
    """The untrained model of a configuration, with model.pretrained's weights or model.init_from's.

    Args: with_weights: False leaves out model.pretrained's. Logs what was and was not taken. ModelError, in one line,
    where the earlier model is of another geometry.
    """
    if config.model.init_from is None:
        return DCALVerificationModel.from_config(config, with_weights=with_weights)
    path = Path(config.model.init_from)
    path = path / MODEL_NAME if path.is_dir() else path
    content = read_model_content(path)
    earlier = TwinVerificationConfig.from_dict(content["config"], str(path))
    _refuse_other_geometry(earlier, config, path)
    model = DCALVerificationModel.from_config(config, with_weights=False, skeleton=skeleton_of(content))
    own, weights = model.state_dict(), dict(content["weights"])
    for name in own:  # stages that were frozen then are their own untouched copies
        was_frozen = name.replace("backbone.untouched.", "backbone.network.stages.", 1)
        if name not in weights and was_frozen in weights:
            weights[name] = weights[was_frozen]
    taken = {name: value for name, value in weights.items() if name in own}
    _refuse_other_shapes(own, taken, path)
    model.load_state_dict(own | taken, strict=True)
    fresh, left = [name for name in own if name not in taken], [name for name in weights if name not in own]
    logger.info(
        "starting from %s (%s, epoch %s): %s taken%s%s", path, earlier.model.backbone,
        content["training"].get("epoch", "unknown"), plural(len(taken), "tensor"), _parts("; new and untrained", fresh),
        _parts("; not used", left),
    )  # fmt: skip
    return model


def _refuse_other_geometry(
    earlier: TwinVerificationConfig, config: TwinVerificationConfig, path: Path
) -> None:
    def value(of: TwinVerificationConfig, key: str) -> object:
        section, _, name = key.partition(".")
        return getattr(getattr(of, section), name)

    different = [
        f"{key} {value(earlier, key)!r} (here {value(config, key)!r})"
        for key in _GEOMETRY
        if value(earlier, key) != value(config, key)
    ]
    if earlier.model.frozen_stride < config.model.frozen_stride:
        different.append(
            f"model.frozen_stride {earlier.model.frozen_stride} (here {config.model.frozen_stride}, and the stages "
            "between were trained)"
        )
    if different:
        raise ModelError(
            f"model.init_from {path}: was built with {', '.join(different)}; set these to the same"
        )


def _refuse_other_shapes(own: Mapping[str, Tensor], taken: Mapping[str, Tensor], path: Path) -> None:
    wrong = [name for name, value in taken.items() if value.shape != own[name].shape]
    if wrong:
        name = wrong[0]
        raise ModelError(
            f"model.init_from {path}: {len(wrong)} of its tensors have another shape, such as {name}: "
            f"{list(taken[name].shape)} for {list(own[name].shape)}"
        )


def _parts(words: str, names: list[str]) -> str:
    """Parts of the model that tensors belong to, with their number; nothing for none."""
    counted = Counter(name.partition(".")[0] for name in names)
    return (
        f"{words}: {', '.join(f'{part} ({number})' for part, number in counted.items())}" if counted else ""
    )
