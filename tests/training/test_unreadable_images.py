"""Images that turn out to be damaged while a run goes on: named, counted, remembered, and the same bits on resuming."""

import json

import pytest
import torch

from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.errors import ImageError, ManifestError
from twin_dcal.training.loop import Trainer
from twin_dcal.training.run import train
from twin_dcal.training.state import find_state


@pytest.fixture
def config(tiny_config, damaged_faces):
    return tiny_config.override({"data.data_dir": str(damaged_faces)})


def make_trainer(config, folder):
    data = TwinDataModule(config)
    data.setup()
    return Trainer(config, data, folder)


def test_they_are_left_out_by_name_and_counted(config, damaged_faces, tmp_path, caplog):
    assert train(config).finished
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["train/unreadable_images"] for line in lines] == [2, 2], (
        "one to train on, one to validate on"
    )
    told = [record.message for record in caplog.records if record.message.startswith("left out: ")]
    assert len(told) == 2
    for name, text in zip(("train/0a/2.png", "val/4b/1.png"), told, strict=True):
        assert text.startswith(f"left out: {damaged_faces / name}: truncated or damaged (")


def test_the_threshold_is_of_the_images_that_could_be_read(config, tmp_path):
    trainer = make_trainer(config, tmp_path)
    trainer.fit()
    origin = torch.load(trainer.checkpoints.best_path, weights_only=True)["threshold"]["origin"]
    assert origin["data"] == "validation: 4 people, 23 images"


def test_a_run_without_such_images_says_nothing_of_them(tiny_config, tmp_path):
    train(tiny_config)
    assert "unreadable" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_a_resumed_run_is_the_run_and_remembers_them(config, tmp_path, caplog):
    whole = make_trainer(config, tmp_path / "whole")
    whole.fit()
    first = make_trainer(config, tmp_path / "parts")
    step = first._step

    def counted(index):
        step(index)
        first.stop.received = first.progress.step == 4

    first._step = counted
    assert not first.fit().finished
    assert len(first.unreadable) == 1
    caplog.clear()
    second = make_trainer(config, tmp_path / "parts")
    path, state = find_state(tmp_path / "parts", "auto")
    assert list(state["unreadable"]) == list(first.unreadable.reasons)
    second.checkpoints.resume(state, path)
    assert second.fit().finished
    assert "train/0a/2.png" not in caplog.text, "named once in a run"
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key]), key
    assert second.unreadable.reasons == whole.unreadable.reasons


def test_strict_refuses_before_training(config, tmp_path):
    with pytest.raises(ManifestError, match="3 images left out, truncated or damaged"):
        train(config.override({"data.strict": True}))
    assert not (tmp_path / "run").exists()


def test_strict_refuses_a_file_that_is_damaged_later(tiny_config, damaged_faces, tiny_faces, tmp_path):
    trainer = make_trainer(tiny_config.override({"data.strict": True}), tmp_path)
    paths = trainer.loader.dataset.paths
    trainer.loader.dataset.paths = tuple(damaged_faces / path.relative_to(tiny_faces) for path in paths)
    with pytest.raises(ImageError, match=r"0a/2\.png: truncated or damaged"):
        trainer.fit()
