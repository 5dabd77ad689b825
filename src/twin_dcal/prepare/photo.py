"""One photograph to its crops and what was seen of it. The same bytes and settings give the same bytes, anywhere."""

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twin_dcal.data.capture import capture
from twin_dcal.data.decode import decode_pixels
from twin_dcal.errors import ImageError
from twin_dcal.files import replacing

from .align import AlignedFace, align_faces
from .detector import FaceDetector
from .duplicates import perceptual_hash
from .settings import PrepareConfig

VERSION = 2
"""Raised whenever the same photo would give another crop or another measurement."""
MAX_BYTES = 1 << 29

Record = dict[str, Any]
"""Plain values: key, source_sha256, fault or None, taken, camera, num_faces, faces; a face has crop (a file name in the
cache), crop_sha256, box, landmarks, quality, moved,
hash and mirrored_hash."""


@dataclass(frozen=True)
class PhotoProcessor:
    """What a process needs to work on photos: settings, the folder of crops, a detector."""

    config: PrepareConfig
    folder: Path
    detector: FaceDetector

    @property
    def settings_key(self) -> str:
        """Changes with whatever can change a crop or a measurement; limits do not, they are applied later."""
        told = json.dumps([VERSION, self.config.crops.model_dump(), self.detector.sha256], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()


def read_source(path: Path) -> bytes:
    """A regular file's bytes. ImageError with the reason alone for anything else; a pipe is not opened."""
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise ImageError("not a regular file")
        if info.st_size == 0:
            raise ImageError("empty file")
        if info.st_size > MAX_BYTES:
            raise ImageError(f"larger than {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be opened ({getattr(error, 'strerror', None) or error})") from None


def process_photo(path: Path, processor: PhotoProcessor, known: Mapping[str, Record]) -> Record:
    """The record of a photo: the known one if bytes and settings are, else a new one whose crops are written."""
    try:
        data = read_source(path)
    except ImageError as error:
        return {"key": "", "fault": str(error), "faces": []}
    sha256 = hashlib.sha256(data).hexdigest()
    key = hashlib.sha256(f"{sha256} {processor.settings_key}".encode()).hexdigest()
    record = known.get(key)
    if record is not None and all((processor.folder / face["crop"]).is_file() for face in record["faces"]):
        return record
    return {"key": key, "source_sha256": sha256, **_seen(data, key, processor)}


def _seen(data: bytes, key: str, processor: PhotoProcessor) -> Record:
    crops = processor.config.crops
    try:
        pixels = decode_pixels(data, "photo")
    except ImageError as error:
        return {"fault": str(error).removeprefix("photo: "), "faces": []}
    most = 1 if crops.faces == "largest" else None
    found = align_faces(pixels, crops.image_size, processor.detector, tolerance=crops.tolerance, most=most)
    fault = None
    if not found:
        fault = "no face found"
    elif crops.faces == "error" and found[0].num_faces > 1:
        fault = f"{found[0].num_faces} faces in the photo"
    told = capture(data)
    return {
        "fault": fault, "taken": told.taken, "camera": told.camera, "size": [pixels.shape[1], pixels.shape[0]],
        "num_faces": found[0].num_faces if found else 0,
        "faces": [_kept(face, f"{key[:2]}/{key[2:40]}-{number}.jpg", processor) for number, face in enumerate(found)],
    }  # fmt: skip


def _kept(face: AlignedFace, name: str, processor: PhotoProcessor) -> Record:
    data = encode(face.crop, processor.config.crops.jpeg_quality)
    with replacing(processor.folder / name) as file:
        file.write(data)
    pixels = np.asarray(Image.open(BytesIO(data)))
    return {
        "crop": name, "crop_sha256": hashlib.sha256(data).hexdigest(),
        "box": [round(float(value), 2) for value in face.box],
        "landmarks": face.landmarks.round(2).tolist(), "quality": face.quality.rounded(), "moved": face.moved,
        "hash": f"{perceptual_hash(pixels):016x}",
        "mirrored_hash": f"{perceptual_hash(pixels[:, ::-1]):016x}",
    }  # fmt: skip


def encode(crop_SSC: NDArray[np.uint8], quality: int) -> bytes:
    """A JPEG with full colour resolution and no metadata."""
    data = BytesIO()
    Image.fromarray(crop_SSC).save(data, "JPEG", quality=quality, subsampling=0)
    return data.getvalue()
