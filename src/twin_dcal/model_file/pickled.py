"""Content of a torch file read without torch.load: tensors and plain values, and nothing that could be called.

A file of torch is a pickle whose tensors point at records of the same archive. This is a machine for the few pickle
instructions that such a file needs. It calls nothing, so no file can run code, and it makes tensors that are views
of the file's own bytes, after checking that they lie inside: nothing is allocated for what a file only claims.
"""

import math
import pickletools
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch

MAX_VALUES = 4_000_000
"""In one file, counted where they are used: a list that stands in two places counts twice."""
MAX_DEPTH = 50
MAX_PICKLE = 256 * 2**20
"""Bytes of a file's structure, which is everything but its tensors."""

_DTYPES = {
    f"torch {name}Storage": dtype
    for name, dtype in (
        ("Float", torch.float32), ("Double", torch.float64), ("Half", torch.float16), ("BFloat16", torch.bfloat16),
        ("Long", torch.int64), ("Int", torch.int32), ("Short", torch.int16), ("Char", torch.int8),
        ("Byte", torch.uint8), ("Bool", torch.bool),
    )
}  # fmt: skip
_TENSOR, _ORDERED = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
_KNOWN = {_TENSOR, _ORDERED, *_DTYPES}

_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_FLAT = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class NotPlainError(ValueError):
    """Something other than tensors and plain values."""


class DamagedError(ValueError):
    """A structure that contradicts itself or the bytes that are there."""


@dataclass(frozen=True)
class _Name:
    """A class or function that the file names. Never looked up."""

    name: str


@dataclass(frozen=True)
class _Storage:
    flat: torch.Tensor


_MARK = object()


def unpickle(records: Mapping[str, memoryview]) -> Any:
    """The value of an archive's `data.pkl`, its tensors being views of `records`.

    NotPlainError, or DamagedError for a file that contradicts itself or whose tensors exceed it.
    """
    names = [name for name in records if name.endswith("/data.pkl")]
    if len(names) != 1 or len(records[names[0]]) > MAX_PICKLE:
        raise DamagedError("no record data.pkl" if not names else "its structure is too large")
    folder = names[0].removesuffix("data.pkl")
    if bytes(records.get(f"{folder}byteorder", b"little")) != b"little":
        raise DamagedError("written by a machine with another byte order")
    machine = _Machine(records, folder)
    try:
        value = machine.run(bytes(records[names[0]]))
        _count(value, {}, 0)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, RuntimeError) as error:
        raise DamagedError(f"its structure is damaged ({type(error).__name__})") from error
    return value


class _Machine:
    """Stack and memory of a pickle."""

    def __init__(self, records: Mapping[str, memoryview], folder: str) -> None:
        self.records, self.folder = records, folder
        self.num_left = sum(map(len, records.values()))  # bytes that tensors may have together
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def run(self, data: bytes) -> Any:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            name = opcode.name
            if name == "STOP":
                break
            if number > 4 * MAX_VALUES:
                raise DamagedError("its structure is too large")
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            else:
                self._step(name, argument)
        (value,) = self.stack
        return value

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO":
                if argument != 2:
                    raise NotPlainError(f"pickle protocol {argument}")
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "BINPUT" | "LONG_BINPUT":
                self.memory[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memory[argument])
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = stack[-_FLAT[name] :]
                del stack[-_FLAT[name] :]
                stack.append(tuple(items))
            case "APPEND" | "APPENDS":
                items = [stack.pop()] if name == "APPEND" else self._since_mark()
                cast(list[Any], _of(stack[-1], list)).extend(items)
            case "SETITEM" | "SETITEMS":
                self._set(self._since_mark() if name == "SETITEMS" else [stack.pop(), stack.pop()][::-1])
            case "GLOBAL":
                if argument not in _KNOWN:
                    raise NotPlainError(f"{argument!r:.80}")
                stack.append(_Name(argument))
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case "REDUCE":
                arguments, called = stack.pop(), stack.pop()
                stack.append(self._made(called, arguments))
            case "BUILD":
                self._describe(stack.pop())
            case _:
                raise NotPlainError(f"pickle instruction {name}")

    def _since_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise DamagedError("its structure is damaged (no mapping)")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if key is not None and type(key) not in (str, bool, int, float, tuple):
                raise DamagedError("its structure is damaged (a key)")
            target[key] = value

    def _describe(self, state: Any) -> None:
        """The one attribute that a state dict has beside its entries: versions of its modules."""
        target = self.stack[-1]
        if type(target) is not OrderedDict or set(_of(state, dict)) - {"_metadata"}:
            raise NotPlainError("an object with a state of its own")
        if "_metadata" in state:
            target._metadata = _of(state["_metadata"], OrderedDict)  # type: ignore[attr-defined]

    def _made(self, called: Any, arguments: Any) -> Any:
        match called, arguments:
            case _Name(name), () if name == _ORDERED:
                return OrderedDict()
            case _Name(name), (_Storage(flat), offset, size, stride, bool(), OrderedDict(), *_) if (
                name == _TENSOR
            ):
                return self._tensor(flat, offset, size, stride)
        raise DamagedError("its structure is damaged (a call)")

    def _storage(self, place: Any) -> _Storage:
        """The numbers that a tensor lies in: a record of this archive, of exactly the size that is claimed."""
        match place:
            case ("storage", _Name(kind), str(key), str(), int(count)) if kind in _DTYPES:
                dtype, record = _DTYPES[kind], self.records.get(f"{self.folder}data/{key}")
            case _:
                raise DamagedError("its structure is damaged (a storage)")
        if record is None or count < 0 or count * dtype.itemsize != len(record):
            raise DamagedError(f"record data/{key:.20} is missing or has another size than its tensor")
        if key not in self.storages:
            flat = torch.frombuffer(record, dtype=dtype) if count else torch.empty(0, dtype=dtype)
            self.storages[key] = _Storage(flat)
        if self.storages[key].flat.dtype != dtype:
            raise DamagedError(f"record data/{key:.20} is of two kinds")
        return self.storages[key]

    def _tensor(self, flat: torch.Tensor, offset: Any, size: Any, stride: Any) -> torch.Tensor:
        numbers = (offset, *_of(size, tuple), *_of(stride, tuple))
        if not all(type(number) is int and number >= 0 for number in numbers) or len(size) != len(stride):
            raise DamagedError("a tensor has no shape")
        count = math.prod(size)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if count and last >= flat.numel():
            raise DamagedError("a tensor reaches beyond its record")
        self.num_left -= count * flat.element_size()
        if self.num_left < 0:
            raise DamagedError("its tensors are larger than the file")
        return flat.as_strided(size, stride, offset) if count else torch.empty(size, dtype=flat.dtype)


def _of(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise DamagedError(f"its structure is damaged (no {kind.__name__})")
    return value


def _count(value: Any, known: dict[int, int], depth: int) -> int:
    """How many values there are, those in two places counted twice. Errors for what is no plain value."""
    if value is None or type(value) in (str, bool, int, float, torch.Tensor):
        return 1
    if type(value) not in (dict, OrderedDict, list, tuple):
        raise NotPlainError(type(value).__name__)
    if depth > MAX_DEPTH:
        raise DamagedError("its structure is too deep, or contains itself")
    if id(value) not in known:
        items = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(item, known, depth + 1) for item in items)
        if known[id(value)] > MAX_VALUES:
            raise DamagedError("its structure is too large")
    return known[id(value)]
