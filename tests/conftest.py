"""A tiny generated data set and a tiny model, shared by tests that need a whole run."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

# Before torch reads it, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from tiny import tiny_values

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.files import replacing
from twin_dcal.model_file import familiarity
from twin_dcal.privacy import set_privacy_defaults

set_privacy_defaults()  # tests import the libraries that read them in any order

SPLITS = {"train": 4, "val": 2, "test": 2}


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def interruptible():
    """A shell that starts tests in the background has them, and what they start, ignore Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def interrupts_as_before():
    """Commands that are started in the tests' own process replace the handler, and are about to end the process."""
    before = signal.getsignal(signal.SIGINT)
    yield
    after = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
    assert after is before, (
        "a handler of Ctrl-C is left behind: it would end a later test, and all tests with it"
    )


@pytest.fixture
def drawn_curves():
    """Requested by tests that look at `training_curves.png`; see `undrawn`."""


@pytest.fixture
def drawn_figures():
    """Requested by tests that look at other pictures of matplotlib's; see `undrawn`."""


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Pictures of matplotlib's are blank unless a test looks at them: drawing took a third of a tiny run or report."""
    if not {"drawn_curves", "drawn_figures"} & set(request.fixturenames):
        monkeypatch.setattr(Figure, "savefig", save_blank)
    run = sys.modules.get("twin_dcal.training.run")
    if run is not None and "drawn_curves" not in request.fixturenames:
        monkeypatch.setattr(run, "write_curves", blank_curves)


def save_blank(figure, file, *, format, **options):
    if format == "png":
        Image.new("L", (1, 1)).save(file, "PNG")
    elif format == "pdf":
        file.write(b"%PDF-1.4\n%%EOF\n")
    else:
        file.write(
            '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>\n'
        )


def blank_curves(folder: Path) -> Path:
    with replacing(folder / "training_curves.png") as file:
        Image.new("L", (1, 1)).save(file, "PNG")
    return folder / "training_curves.png"


@pytest.fixture(autouse=True, scope="session")
def looked_at_once():
    """What every training run stores of how its pictures look is worked out once for each picture."""
    looks, known = familiarity.looks, {}

    def remembered(pixels):
        key = (pixels.shape, pixels.tobytes())
        if key not in known:
            known[key] = looks(pixels)
        return known[key].copy()

    familiarity.looks = remembered
    yield
    familiarity.looks = looks


@pytest.fixture(scope="session")
def tiny_faces(tmp_path_factory) -> Path:
    """8 twin families of 2 people with 6 images of 32 px: each person a pattern of colours, plus noise."""
    root = tmp_path_factory.mktemp("tiny_faces")
    info, pairs = {}, []
    for number, split in enumerate(split for split, count in SPLITS.items() for _ in range(count)):
        pairs.append([f"{number}a", f"{number}b"])
        for twin, person in enumerate(pairs[-1]):
            rng = np.random.default_rng((number, twin))
            pattern = np.kron(rng.uniform(40, 215, (4, 4, 3)), np.ones((8, 8, 1)))
            info[person] = [f"{split}/{person}/{photo}.png" for photo in range(6)]
            for name in info[person]:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                pixels = np.clip(pattern + rng.normal(0, 12, pattern.shape), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(root / name)
    (root / "dataset_infor.json").write_text(json.dumps(info))
    (root / "twin_pairs_infor.json").write_text(json.dumps(pairs))
    return root


def zeroed(path: Path, num_bytes: int = 200) -> None:
    """Damage a file in its middle: first and last bytes stay, only decoding shows it."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + num_bytes] = bytes(num_bytes)
    path.write_bytes(data)


@pytest.fixture
def damaged_faces(tiny_faces, tmp_path) -> Path:
    """`tiny_faces` with one image of each split damaged in its middle: 0a/2, 4b/1 and 6a/3."""
    root = tmp_path / "damaged_faces"
    shutil.copytree(tiny_faces, root)
    for name in ("train/0a/2.png", "val/4b/1.png", "test/6a/3.png"):
        zeroed(root / name)
    return root


@pytest.fixture
def tiny_config(tiny_faces, tmp_path) -> TwinVerificationConfig:
    return TwinVerificationConfig.from_dict(tiny_values(tiny_faces, tmp_path / "run"))
