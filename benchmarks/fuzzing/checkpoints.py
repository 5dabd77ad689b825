"""Checkpoints mutated at random, and what torch's own reader makes of them."""

import io
import json
import math
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import Tensor

from .mutations import (
    HUGE,
    PLAIN,
    SIZES,
    any_place,
    changed_at,
    flipped,
    places,
    restructured,
    spans,
    truncated,
)

_DEEP: list[Any] = []
for _ in range(200):
    _DEEP = [_DEEP]
_LAUGHS: list[Any] = ["ha"]
for _ in range(40):
    _LAUGHS = [_LAUGHS, _LAUGHS]
_AROUND: list[Any] = []
_AROUND.append(_AROUND)
VALUES = (
    *PLAIN, HUGE, -HUGE, (), (1, 2), {1: 2}, {None: {}}, _DEEP, _LAUGHS, _AROUND, torch.zeros(0), torch.zeros(3),
    torch.tensor(math.nan), torch.zeros(2, 2, dtype=torch.int64), torch.zeros(1).expand(10**9),
)  # fmt: skip
_KINDS = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool)


def stored(content: Any) -> bytes:
    """As torch writes it."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def read(data: bytes) -> Any:
    """By torch's own reader."""
    return torch.load(io.BytesIO(data), "cpu", weights_only=True)


def with_values(rng: Random, data: bytes) -> bytes:
    """Another value of any kind somewhere beside the weights, or several."""
    content = read(data)
    for _ in range(rng.choice((1, 1, 1, 2))):
        place = any_place(rng, content, ("weights", "model", "loss", "optimizer"))
        content = changed_at(content, place, lambda _: rng.choice(VALUES))
    return stored(content)


def with_numbers(rng: Random, data: bytes) -> bytes:
    """A number a little or much larger or smaller, or of the other kind."""
    content = read(data)

    def at(place: tuple[Any, ...]) -> Any:
        value = content
        for key in place:
            value = value[key]
        return value

    found = [place for place in places(content) if type(at(place)) in (int, float)]
    old = at(place := rng.choice(found))
    new = rng.choice(
        (old + 1, -old, old * 2, old / 2, old + 1e-9, old * 1e9, float(old), round(old, 1), str(old))
    )
    return stored(changed_at(content, place, lambda _: new))


def with_structure(rng: Random, data: bytes) -> bytes:
    return stored(restructured(rng, read(data), ("weights", "model", "loss")))


def with_sizes(rng: Random, data: bytes) -> bytes:
    """A configuration that claims another size: absurd ones, and those that only the weights contradict."""
    content = read(data)
    keys = (
        ("model", "attention_dim"), ("model", "num_heads"), ("model", "num_blocks"), ("model", "feature_dim"),
        ("model", "pwca_blocks"), ("model", "frozen_stride"), ("data", "image_size"), ("preprocessing", "image_size"),
        ("fusion", "split"), ("runtime", "num_threads"), ("runtime", "num_workers"), ("training", "batch_size"),
    )  # fmt: skip
    for section, name in rng.sample(keys, rng.choice((1, 1, 2, 3))):
        where = content if section in ("preprocessing", "fusion") else content["config"]
        if isinstance(where.get(section), dict):
            where[section][name] = rng.choice((*SIZES, 64, 128, 256, 512, 2048, 16_384))
    if rng.random() < 0.3:
        content["config"]["model"]["backbone"] = rng.choice((
            "vit_base_patch16_224", "vit_giant_patch14_clip_224", "resnet18", "onnx", "timm", "iresnet200",
            "test_vit", "test_resnet", "vit_tiny_patch16_224.WRONG", "../x", "hf_hub:a/b",
            "arcface_vit_l", "eva02_base_patch14_224",
        ))  # fmt: skip
    return stored(content)


def with_tensors(rng: Random, data: bytes) -> bytes:
    """A tensor with another name, shape, kind or order, numbers that are none, or one that stands in for many."""
    content = read(data)
    section = next(name for name in ("weights", "model") if name in content)
    tensors = dict(content[section])
    key, other = rng.sample(list(tensors), 2)
    value: Tensor = tensors[key]
    new: Any = value
    match rng.randrange(11):
        case 0:
            del tensors[key]
        case 1:
            tensors[key + rng.choice(("x", ".weight", "\0"))] = tensors.pop(key)
        case 2:
            new = torch.zeros([*value.shape, rng.choice((1, 2))], dtype=value.dtype)
        case 3:
            new = value.to(rng.choice(_KINDS))
        case 4:
            new = value.flatten()[: value.numel() // 2].clone()
        case 5:
            new = (
                value.clone().fill_(rng.choice((math.nan, math.inf, -math.inf)))
                if value.is_floating_point()
                else value
            )
        case 6:
            new = value.clone().fill_(3e38) if value.is_floating_point() else value - 10**9
        case 7:
            new = torch.zeros((), dtype=value.dtype).expand(
                value.shape if rng.random() < 0.5 else (10**6, 10**6)
            )
        case 8:
            new = rng.choice(VALUES)
        case 9:
            tensors[key], tensors[other] = tensors[other], tensors[key]
            new = tensors[key]
        case _:
            new = value.t() if value.ndim == 2 else value.flip(0) if value.ndim else value + 1
    if key in tensors:
        tensors[key] = new
    content[section] = rng.choice((dict, OrderedDict))(tensors)
    return stored(content)


def with_graph(rng: Random, data: bytes) -> bytes:
    """The structure of a face network: its bytes, or the numbers of its description."""
    content = read(data)
    graph = bytes(content["face_graph"].numpy())
    if graph.startswith(b"{") and rng.random() < 0.7:
        described = json.loads(graph)
        place = any_place(rng, described)
        described = changed_at(described, place, lambda _: rng.choice((*PLAIN, *SIZES[:-1], 64, 1024, 2048)))
        graph = json.dumps(described).encode()
    else:
        graph = rng.choice((truncated, flipped, flipped, spans))(rng, graph)
    content["face_graph"] = torch.frombuffer(bytearray(graph or b"\0"), dtype=torch.uint8)
    return stored(content)


def _rewritten(
    data: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED,
    more: tuple[tuple[str, bytes], ...] = (),
) -> bytes:  # fmt: skip
    """The same archive with other records, whose checksums are right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, record in more:
            new.writestr(name, record)
    return file.getvalue()


def with_pickle(rng: Random, data: bytes) -> bytes:
    """The structure's bytes, with the right checksum."""
    change = rng.choice((flipped, flipped, spans, truncated))
    return _rewritten(data, lambda name, record: change(rng, record) if name.endswith("data.pkl") else record)


def with_claims(rng: Random, data: bytes) -> bytes:
    """Sizes, strides and counts in the structure that are not those of the records; right checksums."""
    import pickletools

    def change(name: str, record: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return record
        numbers = [
            (place, code.name)
            for code, _, place in pickletools.genops(record)
            if code.name in ("BININT1", "BININT2", "BININT")
        ]
        changed = bytearray(record)
        for place, kind in rng.sample(numbers, rng.choice((1, 1, 2, 5))):
            width = {"BININT1": 1, "BININT2": 2, "BININT": 4}[kind]
            changed[place + 1 : place + 1 + width] = rng.choice(
                (b"\xff" * width, bytes(width), rng.randbytes(width))
            )
        return bytes(changed)

    return _rewritten(data, change)


def deflated(rng: Random, data: bytes) -> bytes:
    """Records packed, some of them much larger unpacked than the file."""
    bomb = (
        f"{rng.choice(('archive', 'model'))}/data/{rng.choice((0, 999))}x",
        bytes(rng.choice((10**5, 3 * 10**7))),
    )
    more = (bomb,) if rng.random() < 0.5 else ()
    return _rewritten(
        data, lambda _, record: record, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)), more
    )


def with_contents(rng: Random, data: bytes) -> bytes:
    """The archive's table of contents: sizes, places, counts, methods, names."""
    changed = bytearray(data)
    end = changed.rfind(b"PK\x05\x06")
    (start,) = struct.unpack_from("<I", changed, end + 16)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(min(start, len(changed) - 8), len(changed) - 8)
        width = rng.choice((1, 2, 4, 8))
        changed[at : at + width] = rng.choice(
            (b"\xff" * width, bytes(width), rng.randbytes(width), b"\x08" + bytes(width - 1))
        )
    return bytes(changed)


KINDS: dict[str, tuple[int, Callable[[Random, bytes], bytes]]] = {
    "values": (350, with_values), "numbers": (150, with_numbers), "structure": (200, with_structure),
    "sizes": (150, with_sizes), "tensors": (200, with_tensors), "face network's graph": (200, with_graph),
    "truncated": (150, truncated), "bits flipped": (200, flipped), "bytes moved": (100, spans),
    "pickle, right checksum": (200, with_pickle), "pickle's claims": (50, with_claims), "packed": (25, deflated),
    "table of contents": (25, with_contents),
}  # fmt: skip
"""How many of 2,000, and how."""
