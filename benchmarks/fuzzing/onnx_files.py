"""Exported models mutated at random."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from twin_dcal.model_file.onnx_bytes import sealed, unsealed

from .mutations import PLAIN, SIZES, any_place, changed_at, flipped, restructured, spans, truncated

_PREFIX = "twin_dcal."
_OUTSIDE = (
    "../../etc/passwd", "/etc/passwd", "../" * 20 + "etc/passwd", "beside.bin", "./beside.bin", "", "\0", "~/.bashrc",
    "file:///etc/passwd", "x" * 5000, "a/../../b", "C:\\x", "/proc/self/environ", "/dev/zero", "mutated.onnx",
)  # fmt: skip
_SHAPES = tuple(size for size in SIZES if -(2**63) <= size < 2**63)


def _opened(data: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(unsealed(data))


def _written(model: onnx.ModelProto) -> bytes:
    """With the checksum that such a file has."""
    return sealed(model.SerializeToString())


def _described(model: onnx.ModelProto) -> dict[str, Any]:
    return {entry.key.removeprefix(_PREFIX): json.loads(entry.value) for entry in model.metadata_props}


def _with_description(model: onnx.ModelProto, described: dict[str, Any]) -> bytes:
    del model.metadata_props[:]
    for key, value in described.items():
        model.metadata_props.add(key=_PREFIX + str(key), value=json.dumps(value))
    return _written(model)


def with_metadata(rng: Random, data: bytes) -> bytes:
    model = _opened(data)
    described = _described(model)
    for _ in range(rng.choice((1, 1, 1, 2))):
        described = changed_at(described, any_place(rng, described), lambda _: rng.choice((*PLAIN, *SIZES)))
    return _with_description(model, described)


def with_structure(rng: Random, data: bytes) -> bytes:
    model = _opened(data)
    return _with_description(model, restructured(rng, _described(model)))


def with_text(rng: Random, data: bytes) -> bytes:
    """Metadata that is no JSON, or stands there twice."""
    model = _opened(data)
    entry = rng.choice(model.metadata_props)
    text = entry.value.encode()
    new = rng.choice((truncated, flipped, spans))(rng, text).decode(errors="replace")
    new = rng.choice((new, new, "[" * 100_000, "1" * 5000, "NaN", "", "\0", "{" * 50))
    if rng.random() < 0.3:
        model.metadata_props.add(key=entry.key, value=new)
    else:
        entry.value = new
    return _written(model)


def with_nodes(rng: Random, data: bytes) -> bytes:
    """Cycles, and operators that are missing, doubled, of another kind, wired or set otherwise."""
    model = _opened(data)
    nodes = model.graph.node
    node, other = rng.choice(nodes), rng.choice(nodes)
    match rng.randrange(8):
        case 0 | 1 if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice((nodes[-1].output[0], node.output[0]))
        case 2 if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(
                ("", "nobody", other.output[0], "pixels", "combined")
            )
        case 3:
            node.output[0] = rng.choice(("", other.output[0], "combined", "pixels"))
        case 4:
            nodes.remove(node)
        case 5:
            nodes.append(node)
        case 6:
            node.op_type = rng.choice(
                (other.op_type, "Nobody", "", "Loop", "Identity", "Tile", "Expand", "NonZero", "Range")
            )
        case _:
            node.domain = rng.choice(("", "com.microsoft", "ai.onnx.ml", "nobody"))
            for attribute in node.attribute:
                attribute.i = rng.choice(_SHAPES)
                for place in range(len(attribute.ints)):
                    attribute.ints[place] = rng.choice(_SHAPES)
    return _written(model)


def with_tensors(rng: Random, data: bytes) -> bytes:
    """Weights of another shape, kind or length, or with numbers that are none."""
    model = _opened(data)
    tensor = rng.choice(model.graph.initializer)
    match rng.randrange(6):
        case 0:
            tensor.dims[:] = [rng.choice(_SHAPES) for _ in range(rng.randrange(5))]
        case 1:
            tensor.data_type = rng.choice((0, 1, 2, 6, 7, 8, 9, 10, 11, 16, 99))
        case 2:
            tensor.raw_data = rng.choice((b"", tensor.raw_data[:-1], tensor.raw_data * 2, rng.randbytes(64)))
        case 3:
            tensor.raw_data = rng.choice((b"\xff", b"\x7f")) * len(tensor.raw_data)
        case 4:
            tensor.name = rng.choice(("", "nobody", "pixels", rng.choice(model.graph.initializer).name))
        case _:
            tensor.raw_data = rng.choice((flipped, spans))(rng, tensor.raw_data or b"\0")
    return _written(model)


def with_other_files(rng: Random, data: bytes) -> bytes:
    """Weights that lie in another file, here and outside."""
    model = _opened(data)
    tensor = rng.choice(model.graph.initializer)
    if rng.random() < 0.7:
        tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": rng.choice(_OUTSIDE), "offset": rng.choice(SIZES), "length": rng.choice(SIZES)}
    for key in rng.sample(list(entries), rng.choice((1, 2, 3))):
        tensor.external_data.add(key=key, value=str(entries[key])[:5000])
    return _written(model)


def with_shapes(rng: Random, data: bytes) -> bytes:
    """Shapes of inputs, outputs and values that are absurd or contradict the graph."""
    model = _opened(data)
    value = rng.choice([*model.graph.input, *model.graph.output, *model.graph.value_info])
    dims = value.type.tensor_type.shape.dim
    match rng.randrange(4):
        case 0:
            del dims[:]
        case 1:
            dims.add().dim_value = rng.choice(_SHAPES)
        case 2:
            value.type.tensor_type.elem_type = rng.choice((0, 1, 2, 7, 8, 99))
        case _:
            for dim in dims:
                dim.dim_value = rng.choice(_SHAPES)
    return _written(model)


def with_bombs(rng: Random, data: bytes) -> bytes:
    """Operators that make much of little, or never end, on the way to an output."""
    model = _opened(data)
    graph = model.graph
    size = rng.choice((10**4, 10**8, 10**9, 10**10, 2**40))

    def constant(name: str, *numbers: int) -> str:
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [len(numbers)], numbers))
        return name

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        graph.node.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    target = next(node for node in graph.node if graph.output[0].name in node.output)
    target.output[0] = "bomb.before"
    x = add("ReduceMax", ["bomb.before"], "bomb.seed", keepdims=0)
    match rng.randrange(7):
        case 0:
            x = add("Expand", [x, constant("bomb.shape", size)], "bomb")
        case 1:
            x = add("Reshape", [x, constant("bomb.one", 1)], "bomb.row")
            x = add("Tile", [x, constant("bomb.times", size)], "bomb")
        case 2:
            x = add("Reshape", [x, constant("bomb.one", 1)], "bomb.row")
            x = add("Pad", [x, constant("bomb.pads", 0, size)], "bomb")
        case 3:
            x = add("ConstantOfShape", [constant("bomb.shape", size)], "bomb")
        case 4:
            x = add("Reshape", [x, constant("bomb.one", 1)], "bomb.row")
            for level in range(40):
                x = add("Concat", [x, x], f"bomb.{level}", axis=0)
        case 5:
            bounds = [
                numpy_helper.from_array(np.array(number, "int64"), f"bomb.{number}")
                for number in (0, size, 1)
            ]
            graph.initializer.extend(bounds)
            x = add("Range", [bound.name for bound in bounds], "bomb")
            x = add("Cast", [x], "bomb.float", to=TensorProto.FLOAT)
        case _:
            x = _endless(graph, x, add)
    x = add("ReduceMax", [x], "bomb.end", keepdims=0)
    add("Add", ["bomb.before", x], graph.output[0].name)
    return _written(model)


def _endless(graph: onnx.GraphProto, x: str, add: Callable[..., str]) -> str:
    value, flag = (helper.make_tensor_value_info(name, kind, []) for name, kind in (("v", 1), ("go", 9)))
    ends = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("go_on", 9), ("v_out", 1))]
    steps = [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["v", "v"], ["v_out"])]
    body = helper.make_graph(steps, "body", [helper.make_tensor_value_info("i", 7, []), flag, value], ends)
    graph.initializer.append(helper.make_tensor("bomb.go", TensorProto.BOOL, [], [True]))
    graph.initializer.append(helper.make_tensor("bomb.steps", TensorProto.INT64, [], [2**62]))
    return add("Loop", ["bomb.steps", "bomb.go", x], "bomb.loop", body=body)


def resealed(change: Callable[[Random, bytes], bytes]) -> Callable[[Random, bytes], bytes]:
    """The same with the right checksum."""
    return lambda rng, data: sealed(change(rng, unsealed(data)))


KINDS: dict[str, tuple[int, Callable[[Random, bytes], bytes]]] = {
    "metadata": (350, with_metadata), "metadata's structure": (150, with_structure),
    "metadata's text": (100, with_text), "operators, cycles": (300, with_nodes), "weights": (200, with_tensors),
    "weights in other files": (150, with_other_files), "shapes": (150, with_shapes),
    "operators without bounds": (100, with_bombs), "truncated": (100, truncated), "bits flipped": (100, flipped),
    "bytes moved": (100, spans), "bits flipped, right checksum": (150, resealed(flipped)),
    "bytes moved, right checksum": (50, resealed(spans)),
}  # fmt: skip
"""How many of 2,000, and how."""
