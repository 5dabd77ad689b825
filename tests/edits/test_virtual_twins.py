"""Virtual twins: two edited selves of each training person, the same for everybody who draws them."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from tiny import tiny_values
from tiny_face import tiny_face_onnx

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data import virtual
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.samplers import SampleKey
from twin_dcal.edits import landmarks
from twin_dcal.errors import ManifestError
from twin_dcal.training.loop import Trainer
from twin_dcal.training.state import find_state


@pytest.fixture
def data_folder(faces, tmp_path):
    return shutil.copytree(faces, tmp_path / "faces")


def config_of(folder, tmp_path, **changes):
    config = TwinVerificationConfig.from_dict(tiny_values(folder, tmp_path / "run"))
    return config.override({"data.virtual_twins": "fresh"} | changes)


def module_of(config):
    data = TwinDataModule(config)
    data.setup()
    return data


def test_each_photo_belongs_to_one_of_two_selves_that_change_by_epoch(data_folder, tmp_path):
    twins = module_of(config_of(data_folder, tmp_path)).virtual
    people = twins.person_of(0)
    assert np.array_equal(people // 2, twins.faces.person_of)
    assert np.bincount(people).tolist() == [3, 3, 3, 3]
    assert twins.family_of.tolist() == [0, 0, 0, 0]  # look-alikes, each as two
    assert any(not np.array_equal(people, twins.person_of(epoch)) for epoch in range(1, 6))
    edits = {twins.edit_of(person, half, epoch) for person in (0, 1) for half in (0, 1) for epoch in (0, 1)}
    assert len(edits) == 8


def test_fixed_twins_stay_the_same(data_folder, tmp_path):
    twins = module_of(config_of(data_folder, tmp_path, **{"data.virtual_twins": "fixed"})).virtual
    assert np.array_equal(twins.person_of(0), twins.person_of(7))
    assert twins.edit_of(0, 1, 0) == twins.edit_of(0, 1, 7)


def test_batches_hold_both_selves_and_their_edited_photos(data_folder, tmp_path):
    data = module_of(config_of(data_folder, tmp_path, **{"data.augmentation": False}))
    loader = data.train_loader()
    assert data.num_people == 4
    for epoch in (0, 1):
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            assert sorted(batch["person"].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
            assert torch.equal(
                batch["person"], torch.from_numpy(data.virtual.person_of(epoch))[batch["index"]]
            )
            assert batch["family"].unique().tolist() == [0]


def test_a_sample_is_the_edit_of_its_epoch_whoever_draws_it(data_folder, tmp_path):
    config = config_of(data_folder, tmp_path, **{"data.image_size": 160, "data.augmentation": False})
    first, again = (module_of(config).train_loader().dataset for _ in range(2))
    key = SampleKey(3, epoch=2, batch=1, slot=0)
    image = first[key]["image"]
    assert torch.equal(image, again[key]["image"])
    assert not torch.equal(image, first[SampleKey(3, epoch=3, batch=1, slot=0)]["image"])
    plain = module_of(config.override({"data.virtual_twins": "off"})).train_loader().dataset[key]["image"]
    assert not torch.equal(image, plain)
    assert (image.int() - plain.int()).abs().float().mean() < 12


def test_a_photo_without_a_face_is_left_out_of_training(data_folder, tmp_path, caplog):
    with caplog.at_level("INFO", "twin_dcal"):
        data = module_of(config_of(data_folder, tmp_path))
    assert "1 photograph cannot be edited and is left out: 1 no face found" in caplog.text
    assert data.face_data.train.num_images == data.train_faces.num_images + 1
    assert "6.jpg" not in {path.name for path in data.train_faces.paths}


def test_nothing_to_edit_is_told(tiny_faces, tmp_path):
    folder = shutil.copytree(tiny_faces, tmp_path / "faces")
    with pytest.raises(ManifestError, match="no faces that can be edited"):
        module_of(config_of(folder, tmp_path))


def test_landmarks_are_found_once_and_again_for_a_changed_photo(data_folder, tmp_path, monkeypatch):
    config = config_of(data_folder, tmp_path)
    before = module_of(config).virtual
    looked = []
    find = landmarks.find
    monkeypatch.setattr(
        landmarks, "find", lambda pixels, detector: looked.append(1) or find(pixels, detector)
    )
    after = module_of(config).virtual
    assert not looked
    assert all(np.array_equal(a.turn, b.turn) for a, b in zip(before.cameras, after.cameras, strict=True))
    shutil.copy(data_folder / "train/10/1.jpg", data_folder / "train/10/0.jpg")
    module_of(config)
    assert len(looked) == 1
    (data_folder / "landmarks.json").write_text("damaged")
    module_of(config)
    assert len(looked) == 1 + 13


@pytest.mark.parametrize("wrong", ["NaN", "1e308", '"x"', "null"])
def test_landmarks_that_are_none_are_found_anew(data_folder, tmp_path, wrong):
    config = config_of(data_folder, tmp_path)
    before = module_of(config).virtual
    file = data_folder / "landmarks.json"
    sound = file.read_text()
    file.write_text(re.sub(r"\d+\.\d+", wrong, sound))
    after = module_of(config).virtual
    assert all(np.array_equal(a.turn, b.turn) for a, b in zip(before.cameras, after.cameras, strict=True))
    assert file.read_text() == sound


def test_copies_of_a_picture_stay_with_one_self(data_folder, tmp_path):
    shutil.copy(data_folder / "train/10/1.jpg", data_folder / "train/10/4.jpg")
    twins = module_of(config_of(data_folder, tmp_path)).virtual
    assert twins.copies[0] == ((1, 4),)
    for epoch in range(8):
        people = twins.person_of(epoch)
        assert people[1] == people[4]


def test_a_folder_that_cannot_be_written_to_only_costs_time(data_folder, tmp_path, monkeypatch, caplog):
    def refuse(path, text):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(landmarks, "write_text", refuse)
    assert module_of(config_of(data_folder, tmp_path)).virtual.num_people == 4
    assert "landmarks are not kept" in caplog.text


def test_a_resumed_run_is_the_run_bit_by_bit(data_folder, tmp_path):
    config = config_of(data_folder, tmp_path, **{"training.num_epochs": 3})

    def trainer(name):
        return Trainer(config, module_of(config), tmp_path / name)

    whole = trainer("whole")
    whole.fit()
    first = trainer("parts")
    train_batch, done = first._train_batch, []

    def stop_in_time(batch, num_batches):
        losses = train_batch(batch, num_batches)
        done.append(losses)
        first.stop.received = len(done) >= 3
        return losses

    first._train_batch = stop_in_time
    assert not first.fit().finished
    second = trainer("parts")
    path = tmp_path / "parts" / "last.pth"
    path, state = find_state(path.parent, str(path))
    second.checkpoints.resume(state, path)
    assert second.fit().finished
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key]), key


def test_workers_are_forked_without_opencvs_threads(data_folder, tmp_path):
    """They would wait for ever for threads that stayed behind, whatever used OpenCV before."""
    cv2 = pytest.importorskip("cv2")
    before = cv2.getNumThreads()
    try:
        data = module_of(config_of(data_folder, tmp_path, **{"runtime.num_workers": 1}))
        cv2.setNumThreads(2)
        cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 9)
        loader = data.train_loader()
        loader.batch_sampler.set_epoch(0)
        assert sum(len(batch["index"]) for batch in loader) >= data.train_faces.num_images
    finally:
        cv2.setNumThreads(before)


def test_kept_features_have_one_edit_for_each_view_in_turn(data_folder, tmp_path):
    tiny_face_onnx(tmp_path / "tiny.onnx")
    face = {
        "model.backbone": "onnx", "model.pretrained": str(tmp_path / "tiny.onnx"), "model.attention_dim": 16,
        "model.num_heads": 2,
        "model.frozen_stride": 4, "training.cached_views": 2, "data.augmentation": False, "loss.head": "pairs",
    }  # fmt: skip
    data = module_of(config_of(data_folder, tmp_path, **face))
    twins = data.virtual
    assert np.array_equal(twins.person_of(0), twins.person_of(2))
    assert twins.edit_of(0, 1, 1) == twins.edit_of(0, 1, 3) != twins.edit_of(0, 1, 2)
    trainer = Trainer(data.config, data, tmp_path / "run")
    for epoch in (0, 1, 2):
        trainer.sampler.set_epoch(epoch, 0)
        plain = data.train_loader()
        plain.batch_sampler.set_epoch(epoch)
        for kept, batch in zip(trainer.loader, plain, strict=True):
            for label in ("person", "family", "index"):
                assert torch.equal(kept[label], batch[label])
            images = trainer.preprocessing.normalize(batch["image"])
            (expected, *_) = trainer.model.backbone.frozen(images)
            torch.testing.assert_close(kept["frozen_0"].float(), expected, atol=2e-2, rtol=2e-3)


def test_people_with_one_photo_have_one_self(data_folder, tmp_path):
    info = json.loads((data_folder / "dataset_infor.json").read_text())
    info["20"] = info["20"][:1]
    (data_folder / "dataset_infor.json").write_text(json.dumps(info))
    config = config_of(data_folder, tmp_path, **{"data.min_images": 1})
    twins = module_of(config).virtual
    assert [np.bincount(twins.person_of(epoch), minlength=4)[2:].tolist() for epoch in (0, 1)] == [
        [1, 0],
        [1, 0],
    ]
    assert isinstance(twins, virtual.VirtualTwins)
