"""Weights files of other programs mutated at random: `.safetensors` with headers that lie, and torch's."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save

from twin_dcal.models.backbone import build_backbone
from twin_dcal.models.face.weights import read_tensors

from . import checkpoints
from .mutations import PLAIN, SIZES, any_place, changed_at, flipped, restructured, spans, truncated
from .sound import SIZE

NETWORK = "test_resnet"


def groups(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Files of one network: suffix, sound ones, the judge, and kinds of mutation."""
    torch.manual_seed(5)
    table = timm.create_model(NETWORK, num_classes=0).state_dict()
    return {
        "weights, .safetensors": (".safetensors", {NETWORK: save(table)}, wrong, SAFETENSORS),
        "weights, .pth": (".pth", {NETWORK: checkpoints.stored({"model": table})}, wrong, PICKLED),
    }


def wrong(path: Path) -> str | None:
    """What is wrong with weights that are accepted; None where the network has what another reader finds there."""
    read_tensors(path)
    network = build_backbone(
        NETWORK, pretrained=str(path), image_size=SIZE, attention_dim=8, num_heads=2, num_blocks=1
    )
    found = network.pretrained.state_dict()
    data = path.read_bytes()
    expected = _by_hand(data) if path.suffix == ".safetensors" else _table(checkpoints.read(data))
    for key, value in found.items():
        if key in expected and not np.array_equal(
            value.numpy(), np.asarray(expected[key]).astype(value.numpy().dtype)
        ):
            return f"{key} has other numbers than the file"
    return None


def _table(content: Any) -> dict[str, Any]:
    named = [content[name] for name in ("state_dict", "model") if name in content]
    return named[0] if named else content


def _by_hand(data: bytes) -> dict[str, np.ndarray]:
    (length,) = struct.unpack_from("<Q", data)
    kinds = {"F32": np.float32, "I64": np.int64, "F64": np.float64, "F16": np.float16, "I32": np.int32}
    found = {}
    for key, entry in json.loads(data[8 : 8 + length]).items():
        if key != "__metadata__" and entry["dtype"] in kinds:
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            found[key] = np.frombuffer(data[start:end], kinds[entry["dtype"]]).reshape(entry["shape"])
    return found


def with_header(rng: Random, data: bytes) -> bytes:
    """Offsets, shapes and kinds that are not those of the numbers; entries left out, doubled, or of another kind."""
    (length,) = struct.unpack_from("<Q", data)
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if rng.random() < 0.3:
        header = restructured(rng, header)
    for _ in range(rng.choice((0, 1, 1, 2))):
        header = changed_at(
            header,
            any_place(rng, header),
            lambda _: rng.choice((*PLAIN, *SIZES, "F64", "I8", "F8_E4M3", "C64")),
        )
    if rng.random() < 0.3:
        entry = rng.choice([value for value in header.values() if isinstance(value, dict)] or [{}])
        entry["data_offsets"] = sorted(rng.randrange(2 * len(body)) for _ in range(2))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def with_length(rng: Random, data: bytes) -> bytes:
    """A header of another length than it says."""
    (length,) = struct.unpack_from("<Q", data)
    told = rng.choice(
        (0, 1, length - 1, length + 1, len(data), len(data) - 8, 10**8, 2**32, 2**63, 2**64 - 1)
    )
    return struct.pack("<Q", told) + data[8:]


def with_numbers(rng: Random, data: bytes) -> bytes:
    """NaN or infinity among the numbers."""
    changed = bytearray(data)
    at = len(data) - 4 * rng.randrange(1, 2000)
    changed[at : at + 4] = struct.pack("<f", rng.choice((float("nan"), float("inf"), -float("inf"))))
    return bytes(changed)


def with_tables(rng: Random, data: bytes) -> bytes:
    """A tensor of another name, shape, kind or order, or something that is none."""
    content = checkpoints.read(checkpoints.with_tensors(rng, data))
    return checkpoints.stored(
        rng.choice((content, content["model"], {"state_dict": content["model"]}, [content], 3))
    )


def _with_other_objects(rng: Random, data: bytes) -> bytes:
    content = checkpoints.read(data)
    place = any_place(rng, {"epoch": 1, **content}, ("model",))
    return checkpoints.stored({**content, str(place[0]): rng.choice(checkpoints.VALUES)})


Kinds = dict[str, tuple[int, Callable[[Random, bytes], bytes]]]
SAFETENSORS: Kinds = {
    "header": (200, with_header), "header's length": (30, with_length), "truncated": (60, truncated),
    "bits flipped": (60, flipped), "bytes moved": (30, spans), "no numbers": (20, with_numbers),
}  # fmt: skip
PICKLED: Kinds = {
    "tensors": (80, with_tables), "other entries": (20, _with_other_objects), "truncated": (40, truncated),
    "bits flipped": (60, flipped), "bytes moved": (30, spans), "pickle, right checksum": (80, checkpoints.with_pickle),
    "pickle's claims": (30, checkpoints.with_claims), "packed": (30, checkpoints.deflated),
    "table of contents": (30, checkpoints.with_contents),
}  # fmt: skip
