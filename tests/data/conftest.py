"""Small data sets on disk: one JPEG, written many times with a comment of its own, so that none is a copy."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(width: int = 24, height: int = 20, seed: int = 0) -> Image.Image:
    """A smooth picture, so that JPEG keeps it."""
    rng = np.random.default_rng(seed)
    corners = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
    return corners.resize((width, height), Image.Resampling.BICUBIC)


def commented(jpeg: bytes, comment: str) -> bytes:
    """The same picture with a comment in its file."""
    told = comment.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(told) + 2).to_bytes(2, "big") + told + jpeg[2:]


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    return encoded(picture(), "JPEG", quality=95)


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    return encoded


@pytest.fixture(scope="session")
def draw() -> Callable[..., Image.Image]:
    return picture


@pytest.fixture
def people(jpeg: bytes) -> Callable[[Path, dict[str, int]], None]:
    """Writes ROOT/PERSON/PERSON_0.jpg… for each person and number of images."""

    def write(root: Path, counts: dict[str, int]) -> None:
        for person, count in counts.items():
            (root / person).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                (root / person / f"{person}_{number}.jpg").write_bytes(commented(jpeg, f"{person} {number}"))

    return write


@pytest.fixture
def write_json() -> Callable[[Path, Any], Path]:
    def write(path: Path, values: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
        return path

    return write
