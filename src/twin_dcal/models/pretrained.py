"""Networks of timm with their weights: random ones, those of the model hub, or a file's."""

import logging
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import load_state_dict as read_weights
from torch import Tensor

from twin_dcal.errors import ModelError
from twin_dcal.hub import need_hub, try_to_load_from_cache
from twin_dcal.plural import plural
from twin_dcal.privacy import hub_allowed

from .weights_files import own_part, refuse_packed, refuse_unusable

logger = logging.getLogger(__name__)


def create_network(name: str, pretrained: bool | str, **options: Any) -> Any:
    """The timm network without its classifier; weights, if any, loaded with no key missing or left over.

    Args: pretrained: False for random weights, True for timm's own, which asks the hub once, or the path of a file.
    ModelError, in one line, for weights that cannot be fetched or read, or do not fit.
    """
    if pretrained is True:
        try:
            # With the classifier the weights came with: timm then loads strictly.
            if _is_cached(name):
                network = timm.create_model(name, pretrained=True, **options)
            else:
                need_hub(name, _other_server(name))
                with hub_allowed():
                    network = timm.create_model(name, pretrained=True, **options)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"the pretrained weights of '{name}' could not be fetched or do not fit "
                f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no detail'}). "
                "Give --model.pretrained FILE or --model.pretrained false."
            ) from error
        network.reset_classifier(0)
        return network
    network = timm.create_model(name, pretrained=False, num_classes=0, **options)
    if pretrained:
        _load_file(network, name, Path(pretrained))
    return network


def _is_cached(name: str) -> bool:
    """Whether the weights of a timm model lie on this machine already; looks at files only."""
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        return False
    if not config.hf_hub_id:
        return Path(torch.hub.get_dir(), "checkpoints", Path(config.url).name).is_file()
    names = (config.hf_hub_filename, "model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in names if file)


def _other_server(name: str) -> str | None:
    """Where the weights are that are not on the hub."""
    config = timm.models.get_pretrained_cfg(name)
    return None if config is None or config.hf_hub_id else config.url or None


def _load_file(network: Any, name: str, path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"model.pretrained: no weights file {path}")
    try:
        refuse_packed(path)
        weights = read_weights(str(path), weights_only=True)
    except ModelError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if "weights_only" in reason:  # timm's advice is to read it unsafely
            reason = "it holds objects besides tensors, or is no file of torch.save"
        raise ModelError(f"{path}: not a weights file that can be read safely ({reason})") from error
    refuse_unusable(weights, path)
    prefix, weights = own_part(weights, network.state_dict(), path)
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    try:
        weights = _of_network(weights, network)
        network.load_state_dict(weights, strict=True)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        from .face.layouts import (
            resembling,  # loads every face network, which is needed for this sentence only
        )

        raise ModelError(
            f"{path}: these are not weights of '{name}': {_shorten(str(error))}.{resembling(shapes)}"
        ) from error
    told = f"; '{prefix}' taken off their names" if prefix else ""
    logger.info("loaded %s of '%s' from %s%s", plural(len(weights), "tensor"), name, path, told)


def _of_network(weights: dict[str, Tensor], network: Any) -> dict[str, Tensor]:
    """Under the names that timm gives them today, the classifier's left out."""
    filter_weights = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if filter_weights is not None:
        weights = filter_weights(weights, network)
    classifier = network.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return {key: value for key, value in weights.items() if key.rpartition(".")[0] not in heads}


def _shorten(text: str, limit: int = 400) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
