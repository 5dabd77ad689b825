"""Files that a training goes on or starts from, mutated: its states, and earlier models (`model.init_from`)."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.training.initial import initial_model
from twin_dcal.training.loop import Trainer
from twin_dcal.training.state import LAST, find_state

from . import checkpoints
from .mutations import flipped, truncated
from .sound import SIZE, configured


def groups(folder: Path, files: Mapping[str, bytes]) -> dict[str, tuple[Any, ...]]:
    """suffix, sound files, the judge, and kinds of mutation."""
    config = configured(
        _faces(folder / "faces"), backbone="test_resnet", attention_dim=16, num_heads=2, num_blocks=1
    )
    return {
        "training state": (
            ".pth",
            {"cnn": _state(config, folder / "run")},
            _resumes(config, folder / "run"),
            STATES,
        ),
        "model.init_from": (".pth", {"cnn": files["cnn"]}, _starts, EARLIER),
    }


def _faces(folder: Path) -> Path:
    """Four people of three pictures."""
    rng = np.random.default_rng(6)
    for split, people in (("train", "abcd"), ("val", "ef")):
        for person in people:
            (folder / split / person).mkdir(parents=True)
            for photo in range(3):
                pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / person / f"{photo}.png")
    return folder


def _trainer(config: TwinVerificationConfig, folder: Path) -> Trainer:
    data = TwinDataModule(config)
    data.setup()
    folder.mkdir(exist_ok=True)
    return Trainer(config, data, folder)


def _state(config: TwinVerificationConfig, folder: Path) -> bytes:
    """After an epoch, so that the optimizer has moments."""
    logging.getLogger("twin_dcal").setLevel(logging.ERROR)
    _trainer(config, folder).fit()
    return (folder / LAST).read_bytes()


def _resumes(config: TwinVerificationConfig, folder: Path) -> Callable[[Path], str | None]:
    trainer = _trainer(config, folder)

    def wrong(path: Path) -> str | None:
        """What is wrong with a resumed run; None where it stands where the file says."""
        found = find_state(folder, str(path))
        assert found is not None
        trainer.checkpoints.resume(found[1], path)
        expected = checkpoints.read(path.read_bytes())
        for key, value in trainer.model.state_dict().items():
            if not torch.equal(value, expected["model"][key]):
                return f"{key} has other numbers than the file"
        return None if trainer.progress.to_dict() == expected["progress"] else f"stands at {trainer.progress}"

    return wrong


def _starts(path: Path) -> str | None:
    """What is wrong with a model that starts from a file; None where its tensors are the file's."""
    config = configured(
        path.parent, backbone="test_resnet", attention_dim=32, num_heads=2, num_blocks=1, init_from=str(path)
    )
    found = initial_model(config).state_dict()
    expected = checkpoints.read(path.read_bytes())["weights"]
    for key, value in found.items():
        if key in expected and not torch.equal(value, expected[key]):
            return f"{key} has other numbers than the file"
    return None


STATES = {
    "values": (120, checkpoints.with_values), "numbers": (60, checkpoints.with_numbers),
    "structure": (80, checkpoints.with_structure), "tensors": (60, checkpoints.with_tensors),
    "truncated": (20, truncated), "bits flipped": (30, flipped),
    "pickle, right checksum": (60, checkpoints.with_pickle),
}  # fmt: skip
EARLIER = {
    "values": (50, checkpoints.with_values), "structure": (40, checkpoints.with_structure),
    "sizes": (30, checkpoints.with_sizes), "tensors": (40, checkpoints.with_tensors),
    "bits flipped": (20, flipped), "packed": (10, checkpoints.deflated),
}  # fmt: skip
