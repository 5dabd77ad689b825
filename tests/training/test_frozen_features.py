"""Frozen features: the same training as without them, found again by a later run, refused where they mean nothing."""

import logging

import numpy as np
import pytest
import torch
from tiny_face import EMBEDDING, tiny_face_onnx

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.samplers import SampleKey
from twin_dcal.errors import ConfigError
from twin_dcal.training.frozen_features import FOLDER
from twin_dcal.training.loop import Trainer


@pytest.fixture
def make(tmp_path, tiny_faces):
    tiny_face_onnx(tmp_path / "tiny.onnx")

    def trainer(name="run", **changes):
        values = {
            "model.backbone": "onnx", "model.pretrained": str(tmp_path / "tiny.onnx"), "model.attention_dim": EMBEDDING,
            "model.num_heads": 2, "model.num_blocks": 1, "model.frozen_stride": 4, "data.image_size": 32,
            "data.data_dir": str(tiny_faces), "data.augmentation": False, "runtime.num_workers": 0,
            "runtime.device": "cpu", "training.batch_size": 8, "training.images_per_person": 2,
            "training.num_epochs": 1, "training.warmup_epochs": 0, "loss.head": "pairs",
            "training.optimizer": "sgd", "training.learning_rate": 0.01, "training.lr_reference_batch": None,
        }  # fmt: skip
        config = TwinVerificationConfig().override(values | changes)
        data = TwinDataModule(config)
        data.setup()
        return Trainer(config, data, tmp_path / name)

    return trainer


@pytest.mark.parametrize("frozen", [4, 8, 16])
def test_training_is_that_without_them(make, frozen):
    plain = make("plain", **{"model.frozen_stride": frozen})
    kept = make("kept", **{"model.frozen_stride": frozen, "training.cached_views": 1})
    start = {name: value.clone() for name, value in plain.model.state_dict().items()}
    for trainer in (plain, kept):
        trainer.fit()
    moved = 0.0
    for (name, one), two in zip(
        plain.model.state_dict().items(), kept.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, two, atol=2e-3, rtol=2e-2, msg=name)  # kept in half precision
        moved = max(moved, float((one - start[name]).abs().max()))
    assert moved > 5e-3


def test_views_are_augmented_and_chosen_by_the_samples_key(make):
    trainer = make(**{"training.cached_views": 3, "data.augmentation": True})
    num = trainer.data.face_data.train.num_images
    (array,) = (np.load(file) for file in sorted((trainer.output_dir / FOLDER).glob("*_0.npy")))
    assert len(array) == 3 * num
    assert not np.array_equal(array[:num], array[num : 2 * num])
    trainer.sampler.set_epoch(0, 0)
    first = [batch["frozen_0"] for batch in trainer.loader]
    trainer.sampler.set_epoch(0, 0)
    again = [batch["frozen_0"] for batch in trainer.loader]
    trainer.sampler.set_epoch(1, 0)
    other = [batch["frozen_0"] for batch in trainer.loader]
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    rows = {row.tobytes() for row in array}
    assert all(row.numpy().tobytes() in rows for batch in first for row in batch)


def test_a_later_run_finds_them_and_other_weights_or_data_do_not(make, caplog):
    make(**{"training.cached_views": 1})
    with caplog.at_level(logging.INFO):
        make(**{"training.cached_views": 1, "training.learning_rate": 1e-5, "runtime.seed": 5})
    assert "from an earlier run" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        trainer = make(**{"training.cached_views": 1, "data.color_jitter": 0.1})
    assert "from an earlier run" not in caplog.text
    names = {file.name.partition("_")[0] for file in (trainer.output_dir / FOLDER).iterdir()}
    assert len(names) == 2
    assert all(file.stat().st_mode & 0o077 == 0 for file in (trainer.output_dir / FOLDER).iterdir())


def test_nothing_frozen_is_one_line(make):
    with pytest.raises(ConfigError, match="set model.frozen_stride too"):
        make(**{"training.cached_views": 1, "model.frozen_stride": 0})


def test_views_that_no_disk_holds_are_one_line_and_leave_no_folder(make, tmp_path):
    with pytest.raises(
        ConfigError, match=r"training\.cached_views 1000000000: their features take .* GB free"
    ):
        make(**{"training.cached_views": 1_000_000_000})
    assert not (tmp_path / "run" / FOLDER).exists()


def test_a_file_in_place_of_the_folder_is_one_line(make, tmp_path):
    (tmp_path / "kept").write_text("")
    with pytest.raises(ConfigError, match=r"runtime\.cache_dir .*kept is a file; name a folder"):
        make(**{"training.cached_views": 1, "runtime.cache_dir": str(tmp_path / "kept")})


def test_an_image_that_cannot_be_read_is_replaced_and_known_to_a_later_run(make, damaged_faces):
    for name in ("first", "again"):
        trainer = make(**{"training.cached_views": 2, "data.data_dir": str(damaged_faces)})
        faces = trainer.data.face_data.train
        (bad,) = (at for at, path in enumerate(faces.paths) if str(path).endswith("0a/2.png"))
        samples = [trainer.loader.dataset[SampleKey(bad, epoch, 0, 0)] for epoch in range(6)]
        assert all(sample["asked"] == bad != sample["index"] for sample in samples), name
        assert {sample["person"] for sample in samples} == {int(faces.person_of[bad])}
        assert all("truncated or damaged" in sample["fault"] for sample in samples)
        assert trainer.loader.dataset[SampleKey(bad + 1, 0, 0, 0)]["fault"] == ""
