"""What can be told of an ONNX file before a runtime sees it: whether it is whole, and what its graph is made of.

A file is a protobuf message: fields in a row, each with a number, a kind and a length (protobuf.dev, encoding).
Only the outermost are looked at here; no weights are read, and nothing is made of them. No package is needed.
"""

import hashlib
from collections.abc import Iterator

from twin_dcal.errors import ModelError

# Fields of onnx.proto: of ModelProto, GraphProto, NodeProto, AttributeProto, SparseTensorProto and TensorProto.
_GRAPH, _METADATA, _TRAINING, _FUNCTIONS = 7, 14, 20, 25
_NODE, _WEIGHTS, _SPARSE_WEIGHTS = 1, 5, 15
_OPERATOR, _ATTRIBUTE = 4, 5
_TENSOR, _ITS_GRAPH, _TENSORS, _ITS_GRAPHS, _SPARSE, _SPARSES = 5, 6, 10, 11, 22, 23
_SPARSE_VALUES, _SPARSE_PLACES = 1, 2
_ELSEWHERE, _WHERE = 13, 14

REPEATING = {"Loop", "Scan", "If", "SequenceMap"}
"""Operators with a graph of their own, some of which need not end. No exported network has one."""

_SEAL = bytes([_METADATA << 3 | 2, 86, 0x0A, 16]) + b"twin_dcal.sha256" + bytes([0x12, 66])
"""How the last field begins: a metadata entry, whose value is the digest of all bytes before it, as JSON."""
_SEAL_SIZE = len(_SEAL) + 66


def sealed(content: bytes) -> bytes:
    """The same model with one metadata entry more, by which damage shows."""
    return content + _SEAL + f'"{hashlib.sha256(content).hexdigest()}"'.encode()


def unsealed(content: bytes) -> bytes:
    """The inverse of `sealed`; what has no seal is returned as it is."""
    return content[:-_SEAL_SIZE] if _has_seal(content) else content


def refuse_damaged(content: bytes, path: str) -> None:
    """ModelError for a sealed file whose bytes are not those that were written, for a graph that may never end, and as
    `refuse_weights_elsewhere`. Files of earlier releases have no seal."""
    if _has_seal(content) and sealed(content[:-_SEAL_SIZE]) != content:
        raise ModelError(f"{path}: damaged, or changed after it was exported; export it again")
    try:
        look = _Look()
        operators = {name for graph in look.graphs(memoryview(content)) for name in look.operators(graph)}
    except (IndexError, UnicodeDecodeError):
        raise ModelError(_unreadable(path)) from None
    refuse_weights_elsewhere(content, path)
    if found := sorted(REPEATING & operators):
        raise ModelError(
            f"{path}: its graph repeats or branches ({', '.join(found)}), which no exported model's does"
        )


def refuse_weights_elsewhere(content: bytes, path: str) -> None:
    """ModelError for a file whose weights lie elsewhere: in other files, or wherever in this process's memory such an
    entry leads the runtime; and for one that cannot be read here, of which a runtime may read more."""
    try:
        look = _Look()
        elsewhere = any(
            look.is_elsewhere(tensor)
            for graph in look.graphs(memoryview(content))
            for tensor in look.tensors(graph)
        )
    except IndexError:
        raise ModelError(_unreadable(path)) from None
    if elsewhere:
        raise ModelError(f"{path}: keeps weights in other files, which are not read; export to one file")


def _unreadable(path: str) -> str:
    return f"{path}: not an ONNX model, or damaged (its bytes are no message of fields)"


def metadata(content: bytes) -> dict[str, str]:
    """Metadata entries as the file has them, without asking a runtime; nothing of what is no protobuf."""
    found: dict[str, str] = {}
    look = _Look()
    try:
        for number, value in look.fields(memoryview(content)):
            if number == _METADATA:
                entry = dict(look.fields(value))
                found[bytes(entry[1]).decode()] = bytes(entry[2]).decode()
                if len(found) > _MAX_ENTRIES:
                    return {}
    except (IndexError, KeyError, UnicodeDecodeError):
        return {}
    return found


def _has_seal(content: bytes) -> bool:
    return content[-_SEAL_SIZE:].startswith(_SEAL)


_REPEATED = memoryview(bytes([_NODE << 3 | 2, 6, _OPERATOR << 3 | 2, 4]) + b"Loop")
"""What stands for a part that no exported model has: a graph that is refused."""


_MAX_FIELDS = 1 << 20
"""Fields looked at in one file, a second or two. A network of 1,000 layers has some 50,000; a file made of nothing but
the smallest fields would take minutes for each 100 MB."""
_MAX_ENTRIES = 10_000
"""Of metadata, which are kept in memory; an exported model has some 15."""


class _Look:
    """One look at a file. Its methods raise IndexError for what is no message, and for too many fields."""

    def __init__(self) -> None:
        self._num_left = _MAX_FIELDS

    def graphs(self, content: memoryview) -> Iterator[memoryview]:
        """The graph, whose parts may stand in several places."""
        for number, value in self.fields(content):
            if number == _GRAPH:
                yield value
            elif number in (_FUNCTIONS, _TRAINING):
                yield _REPEATED

    def operators(self, graph: memoryview) -> Iterator[str]:
        """Kinds of a graph's operators; one with a graph of its own counts as one that may repeat."""
        for name, value in self._of_nodes(graph):
            if name == _OPERATOR:
                yield bytes(value).decode()
            elif name == _ATTRIBUTE and any(
                kind in (_ITS_GRAPH, _ITS_GRAPHS) for kind, _ in self.fields(value)
            ):
                yield "Loop"

    def tensors(self, graph: memoryview) -> Iterator[memoryview]:
        """Weights, and tensors that are attributes of operators."""
        for number, value in self.fields(graph):
            if number == _WEIGHTS:
                yield value
            elif number == _SPARSE_WEIGHTS:
                yield from self._of_sparse(value)
        for name, attribute in self._of_nodes(graph):
            for number, value in self.fields(attribute) if name == _ATTRIBUTE else ():
                if number in (_TENSOR, _TENSORS):
                    yield value
                elif number in (_SPARSE, _SPARSES):
                    yield from self._of_sparse(value)

    def is_elsewhere(self, tensor: memoryview) -> bool:
        return any(
            number == _ELSEWHERE or (number == _WHERE and any(byte & 0x7F for byte in value))
            for number, value in self.fields(tensor)
        )

    def _of_nodes(self, graph: memoryview) -> Iterator[tuple[int, memoryview]]:
        for number, node in self.fields(graph):
            if number == _NODE:
                yield from self.fields(node)

    def _of_sparse(self, tensor: memoryview) -> Iterator[memoryview]:
        return (value for number, value in self.fields(tensor) if number in (_SPARSE_VALUES, _SPARSE_PLACES))

    def fields(self, message: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Number and content of each field, for numbers as they are written."""
        at = 0
        while at < len(message):
            self._num_left -= 1
            tag, at = _varint(message, at)
            tag &= (
                0xFFFFFFFF  # as protobuf's readers take it, else they would see fields that are not seen here
            )
            start, length = at, 0
            match tag & 7:
                case 0:
                    _, end = _varint(message, at)
                    length = end - start
                case 1:
                    length = 8
                case 2:
                    length, at = _varint(message, at)
                case 5:
                    length = 4
                case _:
                    raise IndexError("no field")
            if not tag >> 3:
                raise IndexError("fields are numbered from 1 on")
            if at + length > len(message):
                raise IndexError("a field is cut off")
            if self._num_left < 0:
                raise IndexError("more fields than a network has")
            yield tag >> 3, message[at : at + length]
            at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, 7 in each byte, and where the next one begins."""
    number = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise IndexError("no number")
