"""From a checkpoint to an ONNX graph: pixels in, features out, any number of images at a time."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from timm.models.hiera import MaskUnitAttention
from torch import Tensor, nn

from twin_dcal.checkpoint import LoadedModel
from twin_dcal.data.fit import sides
from twin_dcal.errors import ConfigError, ModelError
from twin_dcal.inference.onnx_metadata import INPUT

if TYPE_CHECKING:
    import onnx

# GELU is one operator from 20 on; 24 is the newest that the runtime was tried with.
OPSET, OPSETS = 20, range(18, 25)

_MOST_IMAGES = 2**20
"""At a time, for the tracer alone: torch 2.7 refuses a size without a bound, whose end would be a case of its own."""

_TALKATIVE = ("torch", "onnxscript", "onnx_ir", "onnxruntime")


def require_onnx() -> None:
    """ConfigError, naming what to install, where a package that exporting needs is missing."""
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"exporting needs {', '.join(missing)}: pip install 'twin-dcal[onnx]'")


def to_onnx(loaded: LoadedModel, opset: int = OPSET) -> "onnx.ModelProto":
    """The network of a checkpoint on the CPU, its normalisation included, as an ONNX model without metadata.

    Input "pixels" (batch, H, W, 3) uint8; outputs, by name, what `DCALVerificationModel.features` gives. ConfigError
    for an opset that is not offered, ModelError for a network that cannot be traced.
    """
    require_onnx()
    if opset not in OPSETS:
        raise ConfigError(f"opset {opset}: give one from {OPSETS.start} to {OPSETS.stop - 1}")
    network = _Network(loaded).eval()
    size = sides(loaded.preprocessing.image_size)
    pixels = torch.zeros(2, *size, 3, dtype=torch.uint8)  # one image would be taken for a fixed size
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                network, (pixels,), dynamo=True, external_data=False, opset_version=opset, verbose=False,
                input_names=[INPUT], output_names=network.names(),
                dynamic_shapes=({0: torch.export.Dim("batch", max=_MOST_IMAGES)},),
            )  # fmt: skip
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"backbone '{loaded.config.model.backbone}' cannot be exported ({type(error).__name__}: {reason})"
        ) from error
    assert program is not None
    model = program.model_proto
    for (
        node
    ) in model.graph.node:  # where each came from, with paths of this machine: not for those who get the file
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:], model.metadata_props[:]
    return model


class _Network(nn.Module):
    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__()
        self.model, self.preprocessing = loaded.model, loaded.preprocessing
        for module in self.model.modules():
            if isinstance(
                module, MaskUnitAttention
            ):  # in five dimensions, which the exporter's fused attention lacks
                module.fused_attn = False

    def names(self) -> list[str]:
        return ["combined", "sa", "glca"] if "glca" in self.model.branches else ["combined", "sa"]

    def forward(self, pixels_BSSC: Tensor) -> tuple[Tensor, ...]:
        features = self.model.features(self.preprocessing.normalize(pixels_BSSC.permute(0, 3, 1, 2)))
        return tuple(features.values())


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what the exporter and its packages tell about themselves; errors come through."""
    loggers = [logging.getLogger(name) for name in (None, *_TALKATIVE)]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
