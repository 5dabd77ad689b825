"""The loop: what it writes, that it learns, and that a resumed run is the run."""

import json
import math
import signal

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from twin_dcal.checkpoint import load_model
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.errors import ConfigError, ManifestError, ModelError
from twin_dcal.training.loop import Trainer
from twin_dcal.training.run import train
from twin_dcal.training.state import find_state


def make_trainer(config, tmp_path, name="run"):
    data = TwinDataModule(config)
    data.setup()
    return Trainer(config, data, tmp_path / name)


def resume(trainer, path):
    path, state = find_state(path.parent, str(path))
    trainer.checkpoints.resume(state, path)


def weights(trainer):
    return {key: value.clone() for key, value in trainer.model.state_dict().items()}


def test_a_run_leaves_everything_behind(tiny_config, tmp_path, drawn_curves):
    result = train(tiny_config)
    folder = tmp_path / "run"
    assert result.finished
    assert result.best_model == folder / "best_model.pth"
    assert {"best_model.pth", "last.pth", "config.json", "split.json", "metrics.jsonl"} <= {
        path.name for path in folder.iterdir()
    }
    with Image.open(folder / "training_curves.png") as curves:
        assert curves.width >= 800
        assert len(curves.convert("RGB").getcolors(2**24)) > 50
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    wanted = {"train/loss", "train/sa", "train/glca", "train/pwca", "val/twin_eer", "val/unrelated_auc"}
    assert wanted <= lines[0].keys()
    events = EventAccumulator(str(folder / "logs" / "tensorboard")).Reload()
    logged = [event.value for event in events.Scalars("train/loss")]
    assert logged == pytest.approx([line["train/loss"] for line in lines], rel=1e-6)
    loaded = load_model(result.best_model)
    assert loaded.threshold.origin["criterion"] == "eer"
    assert loaded.threshold.origin["impostors"] == "twin"
    assert 0 <= float(loaded.calibration([0.3])[0]) <= 1
    assert loaded.training["figures"] == result.best_figures


def test_a_folder_with_a_run_is_not_overwritten_unasked(tiny_config, tmp_path, monkeypatch):
    train(tiny_config)
    before = (tmp_path / "run" / "best_model.pth").read_bytes()
    elsewhere = tiny_config.override({"data.data_dir": str(tmp_path / "nowhere")})
    for config in (tiny_config, elsewhere):  # before data are read
        with pytest.raises(ConfigError, match=r"holds a run already; use --resume auto"):
            train(config)
    with monkeypatch.context() as launcher:
        for name, value in {
            "RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": "1",
        }.items():
            launcher.setenv(name, value)
        with pytest.raises(ConfigError, match=r"holds a run already; use --resume auto"):
            train(elsewhere)
    assert (tmp_path / "run" / "best_model.pth").read_bytes() == before
    train(tiny_config.override({"training.num_epochs": 1}), overwrite=True)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("head", ["softmax", "cosface", "arcface"])
def test_eight_images_are_learnt_by_heart(tiny_config, tmp_path, head):
    config = tiny_config.override(
        {"model.dropout": 0.0, "model.drop_path": 0.0, "loss.head": head, "training.num_epochs": 60,
         "training.scheduler": "constant", "loss.scale": 10.0, "training.learning_rate": 3e-3}
    )  # fmt: skip
    trainer = make_trainer(config, tmp_path)
    batch = next(iter(trainer.loader))
    trainer.model.train()
    first = trainer._train_batch(batch, 61)
    steps = [trainer._train_batch(batch, 61) for _ in range(60)]
    last = {branch: sum(step[branch] for step in steps[-10:]) / 10 for branch in ("sa", "glca", "pwca")}
    for branch in ("sa", "glca", "pwca"):
        share = 0.4 if branch == "pwca" else 0.1  # the distractor keeps PWCA from learning by heart
        assert last[branch] < share * first[branch], (branch, first, last)


@pytest.mark.parametrize("stop_after", [1, 3])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_resumed_is_uninterrupted_bit_by_bit(tiny_config, tmp_path, stop_after, accumulation):
    workers = 1 if stop_after == 3 and accumulation == 1 else 0
    config = tiny_config.override({"training.accumulation_steps": accumulation})
    whole = make_trainer(config, tmp_path, "whole")
    whole.fit()

    first = make_trainer(config, tmp_path, "parts")
    train_batch, done = first._train_batch, []

    def stop_in_time(batch, num_batches):
        losses = train_batch(batch, num_batches)
        done.append(losses)
        first.stop.received = len(done) >= stop_after
        return losses

    first._train_batch = stop_in_time
    stopped = first.fit()
    assert not stopped.finished
    assert stopped.stopped_by == "signal"
    assert len(done) == -(-stop_after // accumulation) * accumulation, "stops at an optimizer step"

    torch.manual_seed(12345)
    second = make_trainer(config.override({"runtime.num_workers": workers}), tmp_path, "parts")
    resume(second, tmp_path / "parts" / "last.pth")
    assert second.fit().finished
    assert second.progress == whole.progress
    for key, value in weights(whole).items():
        assert torch.equal(value, second.model.state_dict()[key]), key
    assert torch.equal(whole.loss.log_variances, second.loss.log_variances)


def test_a_stopped_run_leaves_a_usable_model(tiny_config, tmp_path):
    trainer = make_trainer(tiny_config, tmp_path)
    trainer.stop.received = True
    assert not trainer.fit().finished
    loaded = load_model(tmp_path / "run" / "best_model.pth")
    assert loaded.threshold is None


def test_sigint_stops_after_the_batch_and_the_handler_is_put_back(tiny_config, tmp_path):
    trainer = make_trainer(tiny_config, tmp_path)
    train_batch, before = trainer._train_batch, signal.getsignal(signal.SIGINT)

    def interrupted(batch, num_batches):
        signal.raise_signal(signal.SIGINT)
        return train_batch(batch, num_batches)

    trainer._train_batch = interrupted
    assert not trainer.fit().finished
    assert trainer.progress.batch == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_resuming_with_other_people_is_refused(tiny_config, tmp_path):
    make_trainer(tiny_config, tmp_path).checkpoints.save_state()
    trainer = make_trainer(tiny_config, tmp_path)
    faces = trainer.data.face_data.train
    trainer.checkpoints.face_data = type(trainer.data.face_data)(
        faces.subset(faces.people[:-1]), trainer.data.face_data.val, trainer.data.face_data.test, (), 0
    )
    with pytest.raises(ModelError, match=r"trained on 8 people, .* split\.json"):
        resume(trainer, tmp_path / "run" / "last.pth")


@pytest.mark.parametrize(
    ("key", "value"),
    [("model.branches", ["sa"]), ("training.learning_rate", 0.1), ("training.optimizer", "sgd"), ("runtime.seed", 3),
     ("training.batch_size", 12), ("loss.head", "arcface")],
)  # fmt: skip
def test_resuming_as_another_run_names_the_key(tiny_config, tmp_path, key, value):
    make_trainer(tiny_config, tmp_path).checkpoints.save_state()
    other = make_trainer(tiny_config.override({key: value}), tmp_path)
    with pytest.raises(ConfigError, match=rf"trained with another {key}"):
        resume(other, tmp_path / "run" / "last.pth")


def test_a_resumed_run_may_be_longer_and_elsewhere(tiny_config, tmp_path):
    train(tiny_config)
    longer = tiny_config.override({"training.num_epochs": 3, "runtime.output_dir": str(tmp_path / "other")})
    before = load_model(tmp_path / "run" / "best_model.pth").training["step"]
    result = train(longer, resume=str(tmp_path / "run" / "last.pth"))
    assert result.epochs == 3
    assert load_model(tmp_path / "other" / "best_model.pth").training["step"] >= before


def test_an_inference_checkpoint_is_no_training_state(tiny_config, tmp_path):
    trainer = make_trainer(tiny_config, tmp_path)
    trainer.checkpoints.save_best(None)
    with pytest.raises(ModelError, match=r"expected a 'twin_dcal\.state' file, found 'twin_dcal\.model'"):
        resume(trainer, trainer.checkpoints.best_path)


def test_a_loss_that_is_not_finite_stops_with_the_place(tiny_config, tmp_path):
    trainer = make_trainer(tiny_config.override({"training.max_skipped_batches": 2}), tmp_path)
    with torch.no_grad():
        trainer.loss.log_variances.fill_(math.nan)
    seen = []
    trainer.loader = (seen.append(batch) or batch for batch in trainer.loader)
    with pytest.raises(ModelError, match=r"the loss is nan at epoch 1, batch 3; 3 batches .* is 2") as caught:
        trainer.fit()
    names = str(caught.value).partition("The batch's images: ")[2].split(", ")
    paths = trainer.data.face_data.train.paths
    assert names == [str(paths[place]) for place in seen[2]["index"].tolist()]


def test_early_stopping_counts_validations(tiny_config, tmp_path):
    config = tiny_config.override(
        {"training.num_epochs": 9, "training.early_stopping_patience": 2, "training.learning_rate": 1e-12}
    )
    trainer = make_trainer(config, tmp_path)
    result = trainer.fit()
    assert result.finished
    assert result.epochs == 3


def test_resuming_after_early_stopping_trains_no_further(tiny_config, tmp_path):
    config = tiny_config.override(
        {"training.num_epochs": 9, "training.early_stopping_patience": 1, "training.learning_rate": 1e-12}
    )
    make_trainer(config, tmp_path).fit()
    again = make_trainer(config, tmp_path)
    resume(again, tmp_path / "run" / "last.pth")
    assert again.fit().epochs == again.progress.epoch == 2


def test_a_short_last_accumulation_is_averaged_over_its_own_batches(tiny_config, tmp_path):
    config = tiny_config.override(
        {"training.accumulation_steps": 4, "model.dropout": 0.0, "model.drop_path": 0.0}
    )
    gradients = {}
    for num_batches in (5, 8):  # the fifth batch alone, or the first of four
        trainer = make_trainer(config, tmp_path)
        trainer._step = lambda index: None
        trainer.progress.batch = 4
        torch.manual_seed(1)
        trainer.model.train()
        trainer._train_batch(next(iter(trainer.loader)), num_batches)
        gradients[num_batches] = trainer.model.backbone.vit.patch_embed.proj.weight.grad
    assert torch.allclose(gradients[5], 4 * gradients[8], rtol=1e-4, atol=1e-8)


def test_the_rate_of_each_group_is_logged(tiny_config, tmp_path):
    changes = {"training.num_epochs": 1, "training.warmup_epochs": 0, "training.scheduler": "constant"}
    lines = []
    for factor in (0.5, 0):
        train(tiny_config.override({**changes, "training.backbone_lr_factor": factor}), overwrite=True)
        lines.append(json.loads((tmp_path / "run" / "metrics.jsonl").read_text()))
    assert [line["train/learning_rate"] for line in lines] == [1e-3, 1e-3]
    assert [line["train/learning_rate_backbone"] for line in lines] == [5e-4, 0]


def test_the_rate_of_a_run_never_rises_after_warm_up_and_never_is_zero(tiny_faces, tiny_config, tmp_path):
    """With families of 3, 2, 2 and 1 people epochs differ in their number of batches."""
    pairs = json.loads((tiny_faces / "twin_pairs_infor.json").read_text())
    (tmp_path / "pairs.json").write_text(
        json.dumps([["0a", "0b"], ["0b", "1a"], ["1b", "2a"], ["2b", "3a"], *pairs[4:]])
    )
    config = tiny_config.override({
        "data.twin_pairs": str(tmp_path / "pairs.json"), "training.num_epochs": 6, "training.warmup_epochs": 1,
        "training.validate_every": 6,
    })  # fmt: skip
    trainer, rates, counts = make_trainer(config, tmp_path), [], set()
    step = trainer._step

    def recorded(index):
        step(index)
        counts.add(trainer.sampler.num_batches)
        rates.append(trainer.optimizer.param_groups[0]["lr"])

    trainer._step = recorded
    trainer.fit()
    assert len(counts) > 1
    peak = rates.index(max(rates))
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] > 0


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_a_batch_that_is_left_out_leaves_no_trace_in_the_statistics(tiny_config, tmp_path, name):
    config = tiny_config.override(
        {"model.backbone": name, "model.attention_dim": 16, "model.num_heads": 2, "model.num_blocks": 1,
         "data.image_size": 64}
    )  # fmt: skip
    trainer = make_trainer(config, tmp_path)
    trainer.model.train()
    batch = next(iter(trainer.loader))
    before = weights(trainer)
    trainer._train_batch({**batch, "image": batch["image"].float() * math.nan}, 4)
    assert trainer.progress.skipped == 1
    for key, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[key]), key
    trainer._train_batch(batch, 4)
    changed = {
        key for key, value in trainer.model.state_dict().items() if not torch.equal(value, before[key])
    }
    known = set(dict(trainer.model.named_buffers()))
    assert any("running_var" in key for key in changed & known)
    assert all(key.rpartition(".")[2].startswith(("running_", "num_batches")) for key in changed & known)


def test_a_network_without_batch_statistics_has_nothing_to_save(tiny_config, tmp_path):
    statistics = make_trainer(tiny_config, tmp_path).statistics
    statistics.save()
    assert statistics._saved == []


def test_a_frozen_backbone_keeps_its_batch_statistics(tiny_config, tmp_path):
    config = tiny_config.override(
        {"model.backbone": "test_resnet", "model.attention_dim": 16, "model.num_heads": 2, "model.num_blocks": 1,
         "data.image_size": 64, "training.backbone_lr_factor": 0, "training.num_epochs": 1}
    )  # fmt: skip
    trainer = make_trainer(config, tmp_path)
    before = {key: value.clone() for key, value in trainer.model.backbone.cnn.state_dict().items()}
    trainer.fit()
    for key, value in trainer.model.backbone.cnn.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_overwriting_clears_the_old_run_only_once_the_new_one_can_start(tiny_config, tmp_path):
    train(tiny_config)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    before = (tmp_path / "run" / "best_model.pth").read_bytes()
    with pytest.raises(ModelError, match="no weights file"):
        train(tiny_config.override({"model.pretrained": "missing.pth"}), overwrite=True)
    assert (tmp_path / "run" / "best_model.pth").read_bytes() == before
    train(tiny_config.override({"training.num_epochs": 1}), overwrite=True)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert "notes.txt" in names
    assert len([name for name in names if name.startswith("checkpoint_")]) == 1
    assert len(list((tmp_path / "run" / "logs" / "tensorboard").iterdir())) == 1


def test_validate_every(tiny_config, tmp_path):
    config = tiny_config.override({"training.num_epochs": 3, "training.validate_every": 2})
    train(config)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert ["val/twin_eer" in line for line in lines] == [False, True, True]


def test_without_validation_people_the_last_weights_are_the_model(tiny_config, tmp_path, tiny_faces, caplog):
    config = tiny_config.override(
        {"data.data_dir": str(tiny_faces / "train"), "data.val_fraction": 0, "data.test_fraction": 0,
         "data.twin_pairs": str(tiny_faces / "twin_pairs_infor.json"), "training.num_epochs": 1}
    )  # fmt: skip
    result = train(config)
    assert result.best_figures == {}
    assert load_model(result.best_model).threshold is None
    assert "no validation was made" in caplog.text

    config = config.override({"training.num_epochs": 2, "runtime.output_dir": str(tmp_path / "stopped")})
    trainer = make_trainer(config, tmp_path, "stopped")
    trainer.stop.received = True
    trainer.fit()
    assert load_model(trainer.checkpoints.best_path).training["epoch"] == 0
    assert train(config, resume="auto").finished
    assert load_model(trainer.checkpoints.best_path).training["epoch"] == 2


def test_validation_people_without_pairs_are_refused_before_training(tiny_config, tmp_path):
    data = TwinDataModule(tiny_config)
    data.setup()
    faces = data.face_data
    alone = faces.val.subset(faces.val.people[:1])
    data._face_data = type(faces)(faces.train, alone, faces.test, (), 0)
    with pytest.raises(ManifestError, match=r"validation needs 2 people.*it has 1"):
        Trainer(tiny_config, data, tmp_path)


def test_bf16_autocast_trains_on_a_cpu(tiny_config, tmp_path):
    trainer = make_trainer(tiny_config.override({"runtime.amp": "bf16", "training.num_epochs": 1}), tmp_path)
    before = weights(trainer)
    trainer.fit()
    after = trainer.model.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert all(torch.isfinite(value).all() for value in after.values())


def test_the_same_seed_gives_the_same_run_and_another_does_not(tiny_config, tmp_path):
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer = make_trainer(
            tiny_config.override({"runtime.seed": seed, "training.num_epochs": 1}), tmp_path, name
        )
        trainer.fit()
        runs.append(torch.cat([value.flatten().float() for value in weights(trainer).values()]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize(("number", "kept"), [(1, [3]), (2, [2, 3])])
def test_the_newest_checkpoints_are_kept_and_can_be_resumed(tiny_config, tmp_path, number, kept):
    config = tiny_config.override({"training.num_epochs": 3, "runtime.keep_checkpoints": number})
    make_trainer(config, tmp_path).fit()
    found = sorted((tmp_path / "run").glob("checkpoint_*.pth"))
    steps = make_trainer(config, tmp_path).sampler.num_batches
    assert [path.name for path in found] == [f"checkpoint_step_{epoch * steps:08d}.pth" for epoch in kept]
    assert found[-1].samefile(tmp_path / "run" / "last.pth")
    for path, epoch in zip(found, kept, strict=True):
        trainer = make_trainer(config, tmp_path)
        resume(trainer, path)
        assert trainer.progress.epoch == epoch


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fp16_with_scaler_trains_on_a_gpu(tiny_config, tmp_path):
    config = tiny_config.override({"runtime.device": "cuda", "runtime.amp": "fp16"})
    trainer = make_trainer(config, tmp_path)
    assert trainer.fit().finished
    assert trainer.scaler.is_enabled()
