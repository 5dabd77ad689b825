"""What can be told of an ONNX file before a runtime sees it: whether it is whole, and what its graph is made of.

A file is a protobuf message: fields in a row, each with a number, a kind and a length (protobuf.dev, encoding).
Only the outermost are looked at here; no weights are read, and nothing is made of them. No package is needed.
"""

import hashlib
from collections.abc import Iterator

from twin_dcal.errors import ModelError

# Fields of ModelProto, GraphProto and NodeProto (onnx.proto).
_GRAPH, _METADATA, _FUNCTIONS = 7, 14, 25
_NODE, _OPERATOR = 1, 4

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
    """ModelError for a sealed file whose bytes are not those that were written, and for a graph that may never end.

    Files of earlier releases have no seal. What is no protobuf at all passes: the runtime says what is wrong with it.
    """
    if _has_seal(content) and sealed(content[:-_SEAL_SIZE]) != content:
        raise ModelError(f"{path}: damaged, or changed after it was exported; export it again")
    try:
        found = sorted(REPEATING.intersection(_operators(memoryview(content))))
    except (IndexError, UnicodeDecodeError):
        return
    if found:
        raise ModelError(
            f"{path}: its graph repeats or branches ({', '.join(found)}), which no exported model's does"
        )


def metadata(content: bytes) -> dict[str, str]:
    """Metadata entries as the file has them, without asking a runtime; nothing of what is no protobuf."""
    try:
        entries = [
            dict(_fields(value)) for number, value in _fields(memoryview(content)) if number == _METADATA
        ]
        return {bytes(entry[1]).decode(): bytes(entry[2]).decode() for entry in entries}
    except (IndexError, KeyError, UnicodeDecodeError):
        return {}


def _has_seal(content: bytes) -> bool:
    return content[-_SEAL_SIZE:].startswith(_SEAL)


def _operators(content: memoryview) -> Iterator[str]:
    """Kinds of the graph's operators; a function of the file's own counts as one that may repeat."""
    for number, value in _fields(content):
        if number == _FUNCTIONS:
            yield "Loop"
        for kind, node in _fields(value) if number == _GRAPH else ():
            for name, text in _fields(node) if kind == _NODE else ():
                if name == _OPERATOR:
                    yield bytes(text).decode()


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field, empty for numbers. IndexError for what is none."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        length = 0
        match tag & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                length = 8
            case 2:
                length, at = _varint(message, at)
            case 5:
                length = 4
            case _:
                raise IndexError("no field")
        if at + length > len(message):
            raise IndexError("a field is cut off")
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
