"""A face recognition network from an ONNX file, as a torch module that can be trained.

onnx2pytorch turns graphs into modules; here the graph is cut where all that is still needed is one tensor, so that the
parts become the stages of a `FaceNetwork`.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twin_dcal.errors import ConfigError, ModelError
from twin_dcal.model_file.room import room

from .bounded import Bounded
from .network import MAX_SIDE, FaceInput, FaceNetwork

if TYPE_CHECKING:
    import onnx

logger = logging.getLogger(__name__)

_SMALL = 64
"""Floating-point constants up to this size stay in a graph without weights: they may set an operator's shape."""
_NORMALIZES = {"Sub", "Mul", "Div"}
_LARGEST = 2**31 - 1  # bytes: what a protobuf file can hold


class OnnxNetwork(FaceNetwork):
    """Stages and head of an ONNX graph.

    Args: model: one input (B, 3, rows, columns), whose first output is the embedding (B, E). size: rows and columns
    where the file leaves them open. ModelError for a graph that is none of a face network.
    Attributes: skeleton: the graph without its weights, from which `from_skeleton` builds the same network.
    """

    def __init__(
        self, model: "onnx.ModelProto", name: str, face_input: FaceInput | None = None, *, has_weights: bool = True
    ) -> None:  # fmt: skip
        super().__init__()
        _require()
        model = _checked(model, name)
        self.input = _input(model, name) if face_input is None else face_input
        try:
            with Bounded(room(model.ByteSize(), *self.input.size)):
                parts = list(_parts(model, self.input.size))
                self.stages = nn.ModuleList(_GraphPart(part) for part in parts[:-1])
                self.head = _GraphPart(parts[-1])
                self.measure()
                if has_weights:
                    self._check_batches()
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from error
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(
                f"{name}: this graph cannot be turned into a trainable network ({reason}). Export it again with a "
                "dynamic batch, or use weights of a layout that docs/face_networks.md lists"
            ) from error
        self.skeleton = _without_weights(model)

    @classmethod
    def from_file(cls, path: str | Path, face_input: FaceInput | None = None) -> "OnnxNetwork":
        """Read a file. ModelError, in one line, for one that is missing, damaged, or keeps weights in other files."""
        _require()
        import onnx

        path = Path(path)
        if not path.is_file():
            raise ModelError(f"model.pretrained: no weights file {path}")
        try:
            model = onnx.load_model(path, load_external_data=False)
        except Exception as error:
            from .layouts import alike  # loads every face network, which is needed for this sentence only

            raise ModelError(
                f"{path}: not an ONNX model, or damaged ({type(error).__name__}){alike(path)}"
            ) from error
        return cls(model, str(path), face_input)

    @classmethod
    def from_skeleton(
        cls, skeleton: bytes, name: str, max_bytes: int, face_input: FaceInput | None = None
    ) -> "OnnxNetwork":
        """The network of a graph without weights, filled with zeros, which a state dict replaces.

        Args: max_bytes: ModelError for a graph whose weights would take more.
        """
        _require()
        import onnx

        try:
            model = onnx.load_model_from_string(skeleton)
        except Exception as error:
            raise ModelError(
                f"{name}: its face network's graph is damaged ({type(error).__name__})"
            ) from error
        _fill(model, name, max_bytes)
        return cls(model, name, face_input, has_weights=False)

    def patches(self, output: Tensor) -> Tensor:
        if output.ndim == 4:
            return super().patches(output)
        rows, columns = self._grid(output)
        return output[:, output.shape[1] - rows * columns :]

    def _map_shape(self, output: Tensor) -> tuple[int, int, int]:
        if output.ndim == 4:
            return super()._map_shape(output)
        return int(output.shape[2]), *self._grid(output)

    def _grid(self, tokens: Tensor) -> tuple[int, int]:
        found = _token_grid(int(tokens.shape[1]), self.input.size)
        if found is None:
            raise ValueError(f"{tokens.shape[1]} tokens are no grid of patches of {self.input.size} pixels")
        return found

    def _check_batches(self) -> None:
        """ModelError for a graph that was exported for one image at a time."""
        size = self.input.size
        pair = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            both, one = self.eval()(pair), self(pair[1:])
        if both.shape != (2, self.embedding_dim) or not torch.allclose(both[1:], one, rtol=1e-3, atol=1e-4):
            raise ModelError(
                "its embeddings depend on the other images of a batch; export it with a dynamic batch"
            )


class _GraphPart(nn.Module):
    """A part of the graph with one input and one output."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        super().__init__()
        from onnx2pytorch import ConvertModel
        from onnx2pytorch.constants import STANDARD_LAYERS
        from onnx2pytorch.convert.operations import get_buffer_name

        self.graph: nn.Module = ConvertModel(model, experimental=True)
        # Layers hold their weights as parameters; the converter keeps every initializer as a buffer beside.
        graph = cast(Any, self.graph)
        read = {
            name
            for node in model.graph.node
            if not isinstance(getattr(graph, graph.mapping[node.output[0]]), STANDARD_LAYERS)
            for name in node.input
        }
        for tensor in model.graph.initializer:
            if tensor.name not in read:
                delattr(self.graph, get_buffer_name(tensor.name))
        self._use_own_prelus(model, get_buffer_name)
        self._use_own_flattening(model)
        for tensor in graph.onnx_model.graph.initializer:  # only the structure is read from here on
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.graph(x)
        return out

    def _use_own_prelus(self, model: "onnx.ModelProto", buffer_name: Callable[[str], str]) -> None:
        """torch's PReLU for the converter's, which is made of comparisons and takes a third of a training step."""
        graph = cast(Any, self.graph)
        readers = Counter(name for node in model.graph.node for name in node.input)
        for node in model.graph.node:
            if node.op_type != "PRelu" or readers[node.input[1]] > 1:
                continue
            slope = getattr(graph, buffer_name(node.input[1]), None)
            if slope is None or slope.numel() not in (1, max(slope.shape, default=1)):
                continue
            setattr(graph, graph.mapping[node.output[0]], _PReLU(slope))
            setattr(graph, buffer_name(node.input[1]), None)

    def _use_own_flattening(self, model: "onnx.ModelProto") -> None:
        """`flatten` for a reshape to rows: exported again, a reshape would lose that the batch is of any size."""
        import onnx

        graph = cast(Any, self.graph)
        shapes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            target = shapes.get(node.input[1]) if node.op_type == "Reshape" else None
            if target is not None and target.size == 2 and target[0] in (-1, 0, 1):
                setattr(graph, graph.mapping[node.output[0]], _Flatten())


class _Flatten(nn.Module):
    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return x.flatten(1)


class _PReLU(nn.Module):
    """PReLU with the slopes of the file, which stay as they are: training them would cost a third of a step more."""

    slope: Tensor

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.register_buffer("slope", slope.flatten())

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled() and x.ndim == 4:
            out: Tensor = _FixedPReLU.apply(x, self.slope)
            return out
        return F.prelu(x, self.slope)


class _FixedPReLU(torch.autograd.Function):
    """PReLU of maps without a gradient of its slopes, from operators that are vectorised on a CPU in both directions:
    torch's own backward pass takes a quarter of a training step of MobileFaceNet."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        slope_F11 = slope.view(-1, 1, 1)
        return torch.relu(x).mul_(1 - slope_F11).addcmul_(x, slope_F11)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, slope = ctx.saved_tensors
        slope_F11 = slope.view(-1, 1, 1)
        where_positive = torch.ops.aten.threshold_backward(gradient, x, 0)
        return (where_positive * (1 - slope_F11)).addcmul_(gradient, slope_F11), None


def _require() -> None:
    missing = [name for name in ("onnx", "onnx2pytorch") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"a face network from an ONNX file needs {' and '.join(missing)}: pip install 'twin-dcal[face]'"
        )


def _checked(model: "onnx.ModelProto", name: str) -> "onnx.ModelProto":
    import onnx

    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ModelError(f"{name}: keeps weights in other files, which are not read; save it as one file")
    if model.metadata_props and any(entry.key.startswith("twin_dcal.") for entry in model.metadata_props):
        raise ModelError(
            f"{name}: was written by dcal-export; start from its checkpoint with --model.init_from"
        )
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        reason = " ".join(str(error).split())[:150]
        raise ModelError(f"{name}: not a valid ONNX model ({reason})") from error
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1 or not model.graph.output:
        raise ModelError(f"{name}: has {len(inputs)} inputs; a face network takes one, the picture")
    return model


def _input(model: "onnx.ModelProto", name: str) -> FaceInput:
    """Size and pixels of a file's input. ModelError where the size is left open or is no picture."""
    constants = {tensor.name for tensor in model.graph.initializer}
    (value,) = (value for value in model.graph.input if value.name not in constants)
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    if len(dims) != 4 or dims[1] not in (0, 3):
        raise ModelError(f"{name}: its input is {dims}; a face network takes (batch, 3, rows, columns)")
    rows, columns = dims[2] or 112, dims[3] or 112
    if not 0 < min(rows, columns) <= max(rows, columns) <= MAX_SIDE:
        raise ModelError(
            f"{name}: takes pictures of {rows} x {columns} pixels; at most {MAX_SIDE} are supported"
        )
    # Some files subtract and scale themselves and are given bytes (InsightFace's own reader asks the same question).
    first = {node.op_type for node in list(model.graph.node)[:8]}
    own = (
        bool(first & {"Sub", "Add"})
        and bool(first & {"Mul", "Div"})
        and _starts_with_arithmetic(model, value.name)
    )
    return FaceInput((rows, columns), mean=0.0 if own else 127.5, std=1.0 if own else 127.5)


def _starts_with_arithmetic(model: "onnx.ModelProto", name: str) -> bool:
    readers = [node for node in model.graph.node if name in node.input]
    return len(readers) == 1 and readers[0].op_type in _NORMALIZES


def _parts(model: "onnx.ModelProto", size: tuple[int, int]) -> Iterator["onnx.ModelProto"]:
    """The graph cut after each of its stages: models of one input and one output, the last being the head."""
    import onnx
    from onnx.utils import Extractor

    shaped = onnx.ModelProto()
    shaped.CopyFrom(model)
    constants = {tensor.name for tensor in shaped.graph.initializer}
    (value,) = (value for value in shaped.graph.input if value.name not in constants)
    for dim, number in zip(value.type.tensor_type.shape.dim, (1, 3, *size), strict=True):
        dim.Clear()
        dim.dim_value = number
    shaped = onnx.shape_inference.infer_shapes(shaped)
    shapes = {
        known.name: tuple(dim.dim_value for dim in known.type.tensor_type.shape.dim)
        for known in (*shaped.graph.value_info, *shaped.graph.output)
    }
    cuts = _stage_ends(shaped, value.name, shapes)
    if not cuts:
        raise ModelError("no feature map was found in its graph")
    extractor = Extractor(shaped)
    ends = [value.name, *cuts, shaped.graph.output[0].name]
    for start, end in pairwise(ends):
        yield extractor.extract_model([start], [end])


def _stage_ends(model: "onnx.ModelProto", source: str, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """For each size of feature map the narrowest tensor that all later ones follow from alone, the last of equals.

    Where there is no map, (1, N, F) tokens of equal N do.
    """
    nodes = list(model.graph.node)
    computed = {source}  # tensors that depend on the picture
    for node in nodes:
        if computed.intersection(node.input):
            computed.update(node.output)
    last_read = {name: place for place, node in enumerate(nodes) for name in node.input if name in computed}
    last_read[model.graph.output[0].name] = len(nodes)
    alive = {source}
    alone = []
    for place, node in enumerate(nodes):
        alive |= {name for name in node.output if name in computed and last_read.get(name, -1) > place}
        alive -= {name for name in alive if last_read.get(name, -1) <= place}
        if len(alive) == 1:
            alone.append(next(iter(alive)))
    shape_in = next(value for value in model.graph.input if value.name == source).type.tensor_type.shape.dim
    size = shape_in[2].dim_value, shape_in[3].dim_value
    best: dict[tuple[int, int], str] = {}
    for name in alone:
        shape = shapes.get(name, ())
        if len(shape) == 4 and min(shape[2:]) >= 2:
            key, width = (shape[2], shape[3]), shape[1]
        elif len(shape) == 3 and shape[1] >= 16 and _token_grid(shape[1], size) is not None:
            key, width = (shape[1], 1), shape[2]
        else:
            continue
        if key not in best or width <= (shapes[best[key]][1] if len(shape) == 4 else shapes[best[key]][2]):
            best[key] = name
    maps = [name for name in best.values() if len(shapes[name]) == 4 and shapes[name][2] < size[0]]
    return sorted(maps or list(best.values()), key=alone.index)


def _token_grid(num_tokens: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """(rows, columns) of square patches of a picture that give so many tokens, or one fewer, beside a class token.

    Any square number will do for a square picture, whose patches may overlap. None if there is no such grid.
    """
    for num_patches in (num_tokens, num_tokens - 1):
        side = math.isqrt(num_patches)
        if size[0] == size[1] and side**2 == num_patches:
            return side, side
        for patch in range(2, min(size) + 1):
            rows, columns = size[0] // patch, size[1] // patch
            if rows * columns == num_patches:
                return rows, columns
    return None


def _without_weights(model: "onnx.ModelProto") -> bytes:
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) > _SMALL:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    for node in bare.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del bare.metadata_props[:], bare.graph.metadata_props[:]
    bare.doc_string = bare.graph.doc_string = ""
    return bytes(bare.SerializeToString())


def _fill(model: "onnx.ModelProto", name: str, max_bytes: int) -> None:
    import onnx

    bare = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and not tensor.raw_data and not tensor.float_data
    ]
    sizes = [
        4 * math.prod(tensor.dims) if all(dim >= 0 for dim in tensor.dims) else _LARGEST for tensor in bare
    ]
    if sum(sizes) > min(max_bytes, _LARGEST):
        raise ModelError(
            f"{name}: its face network's graph asks for {sum(sizes)} bytes, its weights are {max_bytes}"
        )
    for tensor, size in zip(bare, sizes, strict=True):
        tensor.raw_data = bytes(size)
