"""Images that only decoding shows to be damaged: replaced, left grey or refused, in the same way whoever loads them."""

import pytest
import torch

from twin_dcal.config import DataConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.dataset import FaceDataset, batch_faults
from twin_dcal.data.decode import damage
from twin_dcal.data.manifest import load_face_data, load_face_set
from twin_dcal.data.pairs import read_pairs
from twin_dcal.data.samplers import SampleKey
from twin_dcal.data.transforms import eval_transform
from twin_dcal.errors import ImageError, ManifestError


@pytest.fixture
def train(damaged_faces):
    return load_face_data(DataConfig(data_dir=str(damaged_faces)), 0).train


def place(faces, name):
    return next(at for at, path in enumerate(faces.paths) if str(path).endswith(name))


def test_damage_in_the_middle_is_seen_by_decoding_only(damaged_faces):
    path = damaged_faces / "train" / "0a" / "2.png"
    assert damage(path) is None
    assert damage(path, thorough=True) == "truncated or damaged"


def test_strict_reading_decodes_every_image(damaged_faces):
    with pytest.raises(ManifestError, match=r"3 images left out, truncated or damaged: \S*0a/2\.png, "):
        load_face_data(DataConfig(data_dir=str(damaged_faces), strict=True), 0)
    with pytest.raises(ManifestError, match=r"1 image left out, truncated or damaged: \S*6a/3\.png"):
        load_face_set(damaged_faces, strict=True)


def test_strict_reading_of_a_list_decodes_every_image(damaged_faces, write_json):
    pairs = [["test/6a/3.png", "test/6a/1.png", 1]]
    path = write_json(damaged_faces / "pairs.json", pairs)
    assert read_pairs(path).num_pairs == 1
    with pytest.raises(ManifestError, match=r"entry 0: image \S*6a/3\.png: truncated or damaged"):
        read_pairs(path, thorough=True)


def test_an_image_is_replaced_by_one_of_the_same_person_chosen_by_the_key(train):
    dataset = FaceDataset(train, eval_transform(32), 0, "replace")
    bad, chosen = place(train, "0a/2.png"), set()
    for batch in range(20):
        key = SampleKey(bad, epoch=1, batch=batch, slot=3)
        sample = dataset[key]
        assert sample["asked"] == bad != sample["index"]
        assert sample["person"] == train.person_of[bad] == train.person_of[sample["index"]]
        assert sample["fault"].startswith(f"{train.paths[bad]}: truncated or damaged (")
        assert torch.equal(sample["image"], dataset[sample["index"]]["image"])
        assert dataset[key]["index"] == sample["index"]
        chosen.add(sample["index"])
    assert len(chosen) == 5, "all others of this person"


def test_sound_images_are_read_as_ever(train):
    replacing, plain = (FaceDataset(train, eval_transform(32), 0, way) for way in ("replace", "refuse"))
    sample = replacing[0]
    assert (sample["asked"], sample["index"], sample["fault"]) == (0, 0, "")
    assert torch.equal(sample["image"], plain[0]["image"])


def test_without_a_sound_image_of_the_person_another_stands_in(train):
    for path, person in zip(train.paths, train.person_of, strict=True):
        if person == 0:
            path.write_bytes(b"\x89PNG")
    sample = FaceDataset(train, eval_transform(32), 0, "replace")[0]
    assert sample["person"] == train.person_of[sample["index"]] != 0
    assert str(train.paths[0]) in sample["fault"]


def test_a_data_set_that_has_gone_is_an_error(train):
    for path in train.paths:
        path.unlink()
    with pytest.raises(ImageError, match=rf"0 of {len(train.paths)} images can be read\. \S*: no such file"):
        FaceDataset(train, eval_transform(32), 0, "replace")[0]


def test_refused_or_grey_where_no_other_image_may_stand_in(train):
    bad = place(train, "0a/2.png")
    with pytest.raises(ImageError, match=r"0a/2\.png: truncated or damaged"):
        FaceDataset(train, eval_transform(32), 0)[bad]
    sample = FaceDataset(train, eval_transform(32), 0, "blank")[bad]
    assert (sample["asked"], sample["index"]) == (bad, bad)
    assert sample["image"].unique().tolist() == [128]
    assert "0a/2.png: truncated" in sample["fault"]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loader_says_what_could_not_be_read(damaged_faces, tiny_config, num_workers):
    config = tiny_config.override(
        {
            "data.data_dir": str(damaged_faces),
            "runtime.num_workers": num_workers,
            "training.images_per_person": 4,
        }
    )
    module = TwinDataModule(config)
    module.setup()
    train, found = module.face_data.train, {}
    for batch in module.train_loader():
        assert torch.equal(batch["person"], torch.from_numpy(train.person_of)[batch["index"]])
        found |= batch_faults(batch)
    assert list(found) == [place(train, "0a/2.png")]
