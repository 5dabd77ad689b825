"""Weights of matrix products as 8-bit integers: a quarter of their size, and less time on a CPU with such products."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from twin_dcal.privacy import set_privacy_defaults

from .graph import quiet

if TYPE_CHECKING:
    import onnx


def to_int8(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Matrix products with 8-bit weights, a scale for each output channel, and activations scaled as they come.

    Dynamic: it needs no calibration images, so what it does depends on the weights alone. Convolutions stay as they
    are: docs/export.md has what quantizing them costs. Source: ONNX Runtime, "Quantize ONNX models".
    """
    set_privacy_defaults()
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with quiet(), tempfile.TemporaryDirectory(prefix="dcal-export-") as folder:
        exact, prepared, written = (Path(folder, f"{name}.onnx") for name in ("exact", "prepared", "int8"))
        onnx.save(
            model, exact
        )  # given in memory, its weights would be moved to a second file and not be found again
        quant_pre_process(exact, prepared, skip_symbolic_shape=True)
        # Weights take 7 of the 8 bits: processors without VNNI add two products in 16 bits, which 8 bits can
        # overflow, and scores would depend on the processor (ONNX Runtime, "Quantize ONNX models": reduce_range).
        quantize_dynamic(
            prepared, written, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True,
            op_types_to_quantize=["MatMul", "Gemm"],
        )  # fmt: skip
        return onnx.load(written)
