"""A run that goes on after images came, went or changed says so; a strict one is refused."""

import os
import shutil

import pytest
from PIL import Image

from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.fingerprint import changes, fingerprint
from twin_dcal.errors import ManifestError
from twin_dcal.training.loop import Trainer
from twin_dcal.training.run import train
from twin_dcal.training.state import find_state


@pytest.fixture
def faces(tiny_faces, tmp_path):
    """A copy of the tiny faces as train/val/test folders, which the test may change."""
    for split in ("train", "val", "test"):
        shutil.copytree(tiny_faces / split, tmp_path / "faces" / split)
    shutil.copy(tiny_faces / "twin_pairs_infor.json", tmp_path / "faces")
    return tmp_path / "faces"


@pytest.fixture
def stopped(tiny_config, faces, tmp_path):
    """The configuration of a run that was stopped in its first epoch."""
    config = tiny_config.override({"data.data_dir": str(faces)})
    data = TwinDataModule(config)
    data.setup()
    trainer = Trainer(config, data, tmp_path / "run")
    trainer.stop.received = True
    assert not trainer.fit().finished
    return config


def delete(faces):
    (faces / "train" / "0a" / "3.png").unlink()


def add(faces):
    Image.new("RGB", (64, 64), (90, 60, 30)).save(faces / "train" / "0a" / "new.png")


def replace(faces):
    Image.new("RGB", (64, 64), (90, 60, 30)).save(faces / "train" / "0a" / "3.png")


def rename(faces):
    (faces / "train" / "0a" / "3.png").rename(faces / "train" / "0a" / "x.png")


def delete_validation(faces):
    (faces / "val" / "4a" / "3.png").unlink()


CHANGES = [
    (delete, "training people: '0a' (6 images, now 5; 1 not as before)"),
    (add, "training people: '0a' (6 images, now 7; new or of another size: new.png)"),
    (replace, "training people: '0a' (6 images, now 6; 1 not as before; new or of another size: 3.png)"),
    (rename, "training people: '0a' (6 images, now 6; 1 not as before; new or of another size: x.png)"),
    (delete_validation, "validation people: '4a' (6 images, now 5; 1 not as before)"),
]


@pytest.mark.parametrize(("change", "told"), CHANGES, ids=[change.__name__ for change, _ in CHANGES])
def test_a_difference_is_told_by_person_and_refused_when_strict(
    stopped, faces, tmp_path, caplog, change, told
):
    change(faces)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "run").iterdir())
    with pytest.raises(ManifestError) as caught:
        train(stopped.override({"data.strict": True}), resume="auto")
    assert f"not those it was trained with. {told}. Restore them" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "run").iterdir())
    caplog.clear()
    assert train(stopped, resume="auto").finished
    assert f"{told}. The run goes on with these, but not to the same bits" in caplog.text


def test_the_same_images_elsewhere_are_the_same(stopped, faces, tmp_path, caplog):
    faces.rename(tmp_path / "moved")
    for path in (tmp_path / "moved").rglob("*.png"):
        os.utime(path, (1, 1))
    moved = stopped.override({"data.data_dir": str(tmp_path / "moved"), "data.strict": True})
    assert train(moved, resume="auto").finished
    assert "images are not those" not in caplog.text


def test_a_state_that_does_not_say_goes_on_with_a_warning(stopped, tmp_path, caplog):
    path, state = find_state(tmp_path / "run", "auto")
    del state["data"]
    data = TwinDataModule(stopped)
    data.setup()
    Trainer(stopped, data, tmp_path / "run").checkpoints.resume(state, path)
    assert "does not say which images it knows" in caplog.text


def test_people_are_named(tiny_config):
    data = TwinDataModule(tiny_config)
    data.setup()
    faces = data.face_data.train
    fewer = faces.subset(faces.people[1:])
    assert changes(fingerprint(faces), fewer) == [f"'{faces.people[0]}' is gone"]
    assert changes(fingerprint(fewer), faces) == [f"'{faces.people[0]}' is new"]


def test_two_images_of_one_name_and_size_are_counted(tiny_config):
    data = TwinDataModule(tiny_config)
    data.setup()
    faces = data.face_data.train
    one = faces.paths[0]
    twice = type(faces).build({"p": (one, one), "q": (faces.paths[1],)}, {})
    once = type(faces).build({"p": (one,), "q": (faces.paths[1],)}, {})
    assert changes(fingerprint(twice), twice) == []
    assert changes(fingerprint(twice), once) == ["'p' (2 images, now 1; 1 not as before)"]
    assert changes(fingerprint(once), twice) == [f"'p' (1 image, now 2; new or of another size: {one.name})"]
