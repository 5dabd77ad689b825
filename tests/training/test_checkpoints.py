"""Checkpoints: when they are written, what happens when they cannot be or are damaged, and what resuming restores."""

import errno
import json
import os
import random
import time
from contextlib import contextmanager

import pytest
import torch

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.errors import ConfigError, ModelError
from twin_dcal.training.loop import Trainer
from twin_dcal.training.parallel import DataParallel
from twin_dcal.training.run import train
from twin_dcal.training.state import Progress, cut_metrics, find_state, refuse_changes, write_state
from twin_dcal.training.stopping import TimeLimit


def make_trainer(config, folder):
    data = TwinDataModule(config)
    data.setup()
    return Trainer(config, data, folder)


def resumed(config, folder):
    trainer = make_trainer(config, folder)
    path, state = find_state(folder, "auto")
    trainer.checkpoints.resume(state, path)
    return trainer


def steps_kept(folder):
    return [int(path.stem.rpartition("_")[2]) for path in sorted(folder.glob("checkpoint_step_*.pth"))]


def assert_same_weights(one, other):
    for key, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[key]), key


def test_every_so_many_steps(tiny_config, tmp_path):
    config = tiny_config.override({"runtime.save_every_steps": 2, "runtime.keep_checkpoints": 100})
    trainer = make_trainer(config, tmp_path)
    trainer.fit()
    per_epoch = trainer.sampler.num_batches
    assert steps_kept(tmp_path) == sorted({*range(2, 2 * per_epoch + 1, 2), per_epoch})


def test_every_so_many_minutes(tiny_config, tmp_path):
    config = tiny_config.override({"runtime.save_every_minutes": 1e-9, "runtime.keep_checkpoints": 100})
    trainer = make_trainer(config, tmp_path)
    trainer.fit()
    assert steps_kept(tmp_path) == list(range(1, trainer.progress.step + 1))


@pytest.mark.parametrize("step", [1, 3, 6, 7])
def test_a_killed_run_goes_on_to_the_same_bits(tiny_config, tmp_path, step, monkeypatch):
    """As after kill -9: the state is that of the last save, and the metrics hold more than it."""
    config = tiny_config.override({"runtime.save_every_steps": 2})
    whole = make_trainer(config, tmp_path / "whole")
    whole.fit()
    killed = make_trainer(config, tmp_path / "killed")
    do = killed._step

    def die(index):
        do(index)
        if killed.progress.step == step:
            raise SystemExit("killed")

    monkeypatch.setattr(killed, "_step", die)
    with pytest.raises(SystemExit):
        killed.fit()
    torch.manual_seed(5)
    if step == 1:
        again = make_trainer(config, tmp_path / "killed")
        assert find_state(tmp_path / "killed", "auto") is None
    else:
        again = resumed(config, tmp_path / "killed")
        assert again.progress.step in (step - 1, step - 2)
    again.fit()
    assert again.progress == whole.progress
    assert_same_weights(whole, again)


def test_stopping_before_validation_leaves_it_to_the_resumed_run(tiny_config, tmp_path):
    trainer = make_trainer(tiny_config, tmp_path / "parts")
    step = trainer._step

    def last_of_epoch(index):
        step(index)
        trainer.stop.received = trainer.progress.batch == trainer.sampler.num_batches

    trainer._step = last_of_epoch
    assert not trainer.fit().finished
    assert (trainer.progress.epoch, trainer.progress.batch) == (0, trainer.sampler.num_batches)
    again = resumed(tiny_config, tmp_path / "parts")
    lines = Lines()
    assert again.fit(lines).finished
    whole, expected = make_trainer(tiny_config, tmp_path / "whole"), Lines()
    whole.fit(expected)
    assert_same_weights(whole, again)
    for one, other in zip(lines.figures, expected.figures, strict=True):
        for key in ("train/loss", "val/twin_eer", "train/learning_rate"):
            assert one[key] == other[key]


def test_logged_losses_are_those_of_the_epoch(tiny_config, tmp_path):
    trainer, lines, seen = make_trainer(tiny_config, tmp_path), Lines(), {0: [], 1: []}
    train_batch = trainer._train_batch

    def recorded(batch, num_batches):
        epoch = trainer.progress.epoch
        losses = train_batch(batch, num_batches)
        seen[epoch] += [losses["loss"]] * len(batch["image"])
        return losses

    trainer._train_batch = recorded
    trainer.fit(lines)
    for epoch, line in enumerate(lines.figures):
        assert line["train/loss"] == pytest.approx(sum(seen[epoch]) / len(seen[epoch]), rel=1e-6)


def test_gradients_travel_only_for_optimizer_steps(tiny_config, tmp_path):
    config = tiny_config.override({"training.accumulation_steps": 4, "training.num_epochs": 1})
    trainer, wanted = make_trainer(config, tmp_path), []
    plain = trainer.parallel.synchronizing
    trainer.parallel.synchronizing = lambda is_step: wanted.append(is_step) or plain(is_step)
    trainer.fit()
    num_batches = trainer.sampler.num_batches
    assert wanted == [n % 4 == 0 or n == num_batches for n in range(1, num_batches + 1)]

    class Ddp:
        quiet = 0

        @contextmanager
        def no_sync(self):
            self.quiet += 1
            yield

    shared = DataParallel.__new__(DataParallel)
    shared._ddp = Ddp()
    with shared.synchronizing(True):
        assert shared._ddp.quiet == 0
    with shared.synchronizing(False):
        assert shared._ddp.quiet == 1


class Lines:
    def __init__(self):
        self.figures = []

    def log(self, figures, *, step, epoch):
        self.figures.append(dict(figures))

    def close(self):
        pass


@pytest.mark.parametrize("with_last", [True, False])
def test_the_newest_that_can_be_read_is_taken_whatever_the_order_of_names(tmp_path, caplog, with_last):
    """Steps decide, not when files were written."""
    for step in (200, 9, 100):
        write_state(tmp_path, {"step": step}, step=step, keep=9)
    os.utime(tmp_path / "checkpoint_step_00000009.pth")
    (tmp_path / "last.pth").unlink()
    if with_last:
        (tmp_path / "last.pth").hardlink_to(tmp_path / "checkpoint_step_00000200.pth")
    tried = []
    for _ in range(2):
        path, state = find_state(tmp_path, "auto")
        tried.append((path.name, state["step"]))
        path.write_bytes(b"damaged")  # the same file as last.pth
    first = "last.pth" if with_last else "checkpoint_step_00000200.pth"
    assert tried == [(first, 200), ("checkpoint_step_00000100.pth", 100)]
    assert find_state(tmp_path, str(tmp_path))[1]["step"] == 9
    assert "going back to checkpoint_step_00000009.pth" in caplog.text


def test_a_damaged_newest_falls_back_to_the_one_before(tiny_config, tmp_path, caplog):
    make_trainer(tiny_config, tmp_path).fit()
    newest, before = sorted(tmp_path.glob("checkpoint_*"), reverse=True)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)  # the same file as last.pth
    path, state = find_state(tmp_path, "auto")
    assert path == before
    assert state["progress"]["epoch"] == 1
    assert "last.pth: not a checkpoint, or damaged" in caplog.text
    assert f"going back to {before.name}" in caplog.text
    with pytest.raises(ModelError, match=r"last\.pth: not a checkpoint, or damaged"):
        find_state(tmp_path, str(tmp_path / "last.pth"))
    before.write_bytes(before.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"no checkpoint in .* can be read"):
        find_state(tmp_path, "auto")


def test_no_damage_passes_unseen(tiny_config, tmp_path):
    """A flipped bit anywhere is either found or without effect."""
    make_trainer(tiny_config, tmp_path).checkpoints.save_state()
    path = tmp_path / "last.pth"
    whole, _, good = path.read_bytes(), *find_state(tmp_path, str(path))
    rng, found = random.Random(0), 0
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            state = find_state(tmp_path, str(path))[1]
        except ModelError:
            found += 1
            continue
        assert all(torch.equal(value, state["model"][key]) for key, value in good["model"].items())
        assert state["progress"] == good["progress"]
    assert found >= 50


def test_a_full_disk_leaves_the_old_checkpoint_and_training_goes_on(
    tiny_config, tmp_path, caplog, monkeypatch
):
    trainer = make_trainer(tiny_config, tmp_path)
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) in (3, 4):  # best_model.pth and the state of the second epoch
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr("twin_dcal.files.os.fsync", full)
    # Every validation is the best so far, so that best_model.pth is written each time.
    monkeypatch.setattr("twin_dcal.training.validation.Validation.key", lambda self, by: (-len(calls), 0.0))
    assert trainer.fit().finished
    assert (
        "cannot be written, the disk is full (No space left on device). Make room there and start again.); "
        "the one before stays, training goes on" in caplog.text
    )
    for name in ("best_model.pth", "checkpoint_step_00000012.pth"):
        assert f"{tmp_path / name}: cannot be written, the disk is full" in caplog.text
    assert steps_kept(tmp_path) == [6, 12], "written at the end, when there was room again"
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="needs /dev/full")
def test_a_disk_that_fills_up_in_the_middle_of_a_file(tmp_path, monkeypatch):
    """torch's own writer meets the error: it must come out as an OSError."""
    from twin_dcal import checkpoint

    @contextmanager
    def onto_full(path):
        with open("/dev/full", "wb", buffering=0) as file:  # noqa: PTH123
            yield file

    monkeypatch.setattr(checkpoint, "replacing", onto_full)
    with pytest.raises(OSError, match=r"No space left|cannot be written"):
        checkpoint.write_tensors(tmp_path / "x.pth", {"a": torch.zeros(100_000)})


def test_metrics_after_the_state_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [
        {"step": 6, "epoch": 1, "a": 1},
        {"step": 9, "epoch": 1.5, "a": 2},
        {"step": 12, "epoch": 2, "a": 3},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 13, "epo')
    cut_metrics(path, Progress(epoch=1, batch=6, step=12))
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert kept == lines[:2], "the second epoch's validation is still to come"
    cut_metrics(path, Progress(epoch=1, batch=2, step=8))
    assert [json.loads(line) for line in path.read_text().splitlines()] == lines[:1]
    cut_metrics(tmp_path / "none.jsonl", Progress())
    assert not (tmp_path / "none.jsonl").exists()


def test_a_resumed_run_logs_every_epoch_once(tiny_config, tmp_path):
    folder = tmp_path / "run"
    train(tiny_config)
    whole = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    first, *_ = sorted(folder.glob("checkpoint_*"))
    (folder / ".checkpoint_step_00000001.pth.abc.tmp").write_text("half")
    train(tiny_config, resume=str(first))
    again = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in again] == [1, 2]
    assert [line["train/loss"] for line in again] == [line["train/loss"] for line in whole]
    assert not list(folder.glob(".*.tmp"))


def test_resume_says_what_is_missing(tiny_config, tmp_path):
    (tmp_path / "empty").mkdir()
    for where, message in (
        (tmp_path / "none.pth", "no such file"),
        (tmp_path / "empty", r"holds no last\.pth"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(tiny_config, resume=str(where))


def test_keys_that_an_old_state_lacks_had_their_default(tiny_config, tmp_path):
    stored = tiny_config.model_dump(mode="json")
    del stored["loss"]["across_ranks"]
    refuse_changes(stored, tiny_config, tmp_path)
    with pytest.raises(ConfigError, match=r"another loss\.across_ranks \(True, now False\)"):
        refuse_changes(stored, tiny_config.override({"loss.across_ranks": False}), tmp_path)


@pytest.mark.parametrize(("before", "now"), [(64, [64, 64]), ([64, 64], 64), ([96, 64], (96, 64))])
def test_one_size_written_in_two_ways_is_one_size(tiny_config, tmp_path, before, now):
    config = tiny_config.override({"data.image_size": now})
    stored = config.model_dump(mode="json")
    stored["data"]["image_size"] = before
    refuse_changes(stored, config, tmp_path)
    stored["data"]["image_size"] = [64, 96]
    with pytest.raises(ConfigError, match=r"another data\.image_size \(\[64, 96\], now (64|\[96, 64\])\)"):
        refuse_changes(stored, config, tmp_path)


def test_the_time_limit_counts_what_is_still_to_come():
    limit = TimeLimit(1.0, time.time() - 3400)
    assert not limit.is_near("step")
    limit.note("validation", 80)
    assert limit.is_near("validation")
    assert not limit.is_near("step")
    limit.note("save", 71)
    assert limit.is_near("step")
    assert not TimeLimit(None, 0.0).is_near("step")


def test_a_run_stops_before_its_time_is_over_and_goes_on(tiny_config, tmp_path, capfd):
    config = tiny_config.override({"training.num_epochs": 1000, "runtime.max_hours": 4 / 3600})
    result = train(config)
    assert result.seconds < 4
    assert result.stopped_by == "time limit"
    assert (tmp_path / "run" / "last.pth").exists()
    longer = config.override({"runtime.max_hours": None, "training.num_epochs": result.epochs + 1})
    assert train(longer, resume="auto").finished


def test_a_gradient_that_is_not_finite_is_left_out(tiny_config, tmp_path, caplog):
    trainer = make_trainer(tiny_config.override({"training.num_epochs": 1}), tmp_path)
    step = trainer._step

    def spoiled(index):
        if trainer.progress.step == 2:
            next(trainer.model.parameters()).grad.fill_(float("inf"))
        step(index)

    trainer._step = spoiled
    assert trainer.fit().finished
    assert trainer.progress.skipped == 1
    assert "the gradient's norm is inf at epoch 1, batch 3: left out (1 of at most 10)" in caplog.text
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())


def test_presets_keep_a_global_batch_of_64():
    for name in ("default", "single_gpu", "kaggle", "no_tracking"):
        training = TwinVerificationConfig.preset(name).training
        assert training.batch_size * training.accumulation_steps == 64
