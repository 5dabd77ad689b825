"""A tiny face network as an ONNX file, of the operators that such files have."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, EMBEDDING = 32, 16


def tiny_face_onnx(path=None, *, seed=0, batch="batch", own_scale=False, size=(SIZE, SIZE)):
    """Four stages of stride 2, 4, 8, 16, 8 channels each; an embedding of 16 numbers. size: rows and columns."""
    rng = np.random.default_rng(seed)
    nodes, weights = [], []

    def constant(name, array):
        weights.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def add(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    x, channels = "input", 3
    if own_scale:
        x = add("Sub", [x, constant("mean", np.full((1, 1, 1), 127.5))], "centred")
        x = add("Mul", [x, constant("factor", np.full((1, 1, 1), 1 / 128))], "scaled")
    for stage in range(4):
        kernel = constant(f"w{stage}", rng.normal(size=(8, channels, 3, 3)) * np.sqrt(2 / (9 * channels)))
        x = add("Conv", [x, kernel], f"conv{stage}", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        statistics = [
            1 + 0.1 * rng.normal(size=8),
            0.1 * rng.normal(size=8),
            0.1 * rng.normal(size=8),
            np.ones(8),
        ]
        names = [
            constant(f"bn{stage}{letter}", values) for letter, values in zip("abcd", statistics, strict=True)
        ]
        x = add("BatchNormalization", [x, *names], f"norm{stage}")
        x = add("PRelu", [x, constant(f"slope{stage}", rng.uniform(-0.2, 0.4, (8, 1, 1)))], f"act{stage}")
        kernel = constant(f"v{stage}", rng.normal(size=(8, 8, 3, 3)) * 0.1)
        y = add("Conv", [x, kernel], f"res{stage}", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x, channels = add("Add", [x, y], f"sum{stage}"), 8
    flat = add("Flatten", [x], "flat")
    matrix, bias = (
        constant("fc", rng.normal(size=(8 * (size[0] // 16) * (size[1] // 16), EMBEDDING)) * 0.2),
        constant("fcb", rng.normal(size=EMBEDDING)),
    )
    add("Gemm", [flat, matrix, bias], "embedding")
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, *size])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, EMBEDDING])],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if path is not None:
        onnx.save(model, str(path))
    return model
