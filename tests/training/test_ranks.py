"""Two processes are one: the same losses, weights and decisions as a single process with the same global batch."""

import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from rank_worker import run as run_scenario
from tiny import tiny_values

HERE = Path(__file__).parent

PLAIN = {
    "model": {"dropout": 0.0, "drop_path": 0.0, "branches": ["sa", "glca"]},
    "training": {"optimizer": "sgd"},
}
CNN = {
    "model": {"backbone": "test_resnet", "attention_dim": 16, "num_heads": 2, "num_blocks": 1,
              "branches": ["sa", "glca"], "dropout": 0.0, "drop_path": 0.0},
    "training": {"optimizer": "sgd", "learning_rate": 1e-2},
}  # fmt: skip
BF16 = {
    **CNN,
    "runtime": {"amp": "bf16"},
    "training": {**CNN["training"], "learning_rate": 1e-3, "num_epochs": 1},
}
ALONE_TOO = {
    "plain": PLAIN,
    "batch": {**PLAIN, "loss": {"softmax_over": "batch"},
              "training": {"optimizer": "sgd", "accumulation_steps": 2, "num_epochs": 1}},
    "own_losses": {**PLAIN, "loss": {"across_ranks": False, "triplet_weight": 0.0}},
    "cnn": {**CNN, "training": {**CNN["training"], "num_epochs": 1}},
    "adamw": {**PLAIN, "training": {"clip_norm": None, "num_epochs": 1}},
}  # fmt: skip
"""Configurations in which nothing depends on which process an image is in."""


def values_of(faces, folder, *, changes):
    values = tiny_values(faces, folder)
    values["training"]["batch_size"] = 16
    for section, keys in deepcopy(changes).items():
        values.setdefault(section, {}).update(keys)
    return values


def launch(scenarios, folder, num_ranks):
    """Outcomes by name."""
    folder.mkdir(exist_ok=True)
    (folder / "scenarios.json").write_text(json.dumps(scenarios))
    command = [
        sys.executable, str(HERE / "rank_worker.py"), str(folder / "scenarios.json"), str(folder), str(num_ranks),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return {s["name"]: torch.load(folder / f"{s['name']}.pt", weights_only=False) for s in scenarios}


@pytest.fixture(scope="module")
def twice(tiny_faces, tmp_path_factory):
    """Every scenario with two processes, in one launch."""
    folder = tmp_path_factory.mktemp("two") / "ranks"
    scenarios = [
        {"name": name, "config": values_of(tiny_faces, folder / name, changes=changes)}
        for name, changes in ALONE_TOO.items()
    ]
    fsdp = {**PLAIN, "runtime": {"strategy": "fsdp"}}
    every = {"training": {"accumulation_steps": 2}}
    scenarios += [
        {"name": "fsdp", "config": values_of(tiny_faces, folder / "fsdp", changes=fsdp)},
        {"name": "fsdp_resumed", "config": values_of(tiny_faces, folder / "fsdp_resumed", changes=fsdp),
         "stop_after": 2},
        {"name": "fsdp_from_ddp", "config": values_of(tiny_faces, folder / "fsdp_from_ddp", changes=PLAIN),
         "stop_after": 2, "resume_as": {"runtime.strategy": "fsdp"}},
        {"name": "whole", "config": values_of(tiny_faces, folder / "whole", changes=every)},
        {"name": "resumed", "config": values_of(tiny_faces, folder / "resumed", changes=every), "stop_after": 1,
         "resume_as": {"runtime.num_workers": 1}},
        {"name": "bf16", "config": values_of(tiny_faces, folder / "bf16", changes=BF16)},
        {"name": "poisoned", "config": values_of(tiny_faces, folder / "poisoned", changes=CNN), "poison": [1]},
    ]  # fmt: skip
    return launch(scenarios, folder, 2)


def alone(name, changes, tiny_faces, tmp_path):
    scenario = {"name": name, "config": values_of(tiny_faces, tmp_path / name, changes=changes)}
    return run_scenario(scenario, tmp_path)


def assert_close(one, other, *, rtol, atol):
    for part in ("weights", "loss"):
        assert one[part].keys() == other[part].keys()
        for key, value in one[part].items():
            torch.testing.assert_close(value, other[part][key], rtol=rtol, atol=atol, msg=key)


def logged(outcome, prefix):
    return [
        {key: value for key, value in line.items() if key.startswith(prefix)} for line in outcome["lines"]
    ]


@pytest.mark.parametrize("name", list(ALONE_TOO))
def test_two_processes_train_what_one_trains(name, twice, tiny_faces, tmp_path):
    one = alone(name, ALONE_TOO[name], tiny_faces, tmp_path)
    loose = name == "adamw"  # divides by the gradient's size, so rounding of tiny gradients shows
    assert_close(one, twice[name], rtol=1e-4, atol=1e-3 if loose else 2e-6)
    for mine, theirs in zip(one["lines"], twice[name]["lines"], strict=True):
        assert mine.keys() == theirs.keys()
        for key in mine.keys() - {"train/images_per_second", "train/waiting_share"}:
            assert mine[key] == pytest.approx(theirs[key], rel=1e-3 if loose else 1e-5, abs=1e-5), key
    assert one["progress"]["images"] == twice[name]["progress"]["images"]


def test_the_comparison_would_see_a_wrong_share(twice):
    """Another loss than that of the global batch ends elsewhere."""
    with pytest.raises(AssertionError):
        assert_close(twice["plain"], twice["own_losses"], rtol=1e-4, atol=2e-6)


def test_split_weights_train_the_same(twice):
    assert_close(twice["plain"], twice["fsdp"], rtol=1e-4, atol=2e-6)
    assert_close(twice["fsdp"], twice["fsdp_resumed"], rtol=0, atol=0)
    assert_close(twice["plain"], twice["fsdp_from_ddp"], rtol=1e-4, atol=2e-6)


def test_two_processes_resume_to_the_same_bits(twice):
    assert_close(twice["whole"], twice["resumed"], rtol=0, atol=0)
    assert torch.equal(twice["whole"]["random"], twice["resumed"]["random"])
    assert twice["whole"]["progress"] == twice["resumed"]["progress"]
    assert logged(twice["whole"], "val/") == logged(twice["resumed"], "val/")
    losses = {"train/loss", "train/sa", "train/glca", "train/pwca"}
    for one, other in zip(twice["whole"]["lines"], twice["resumed"]["lines"], strict=True):
        assert {key: one[key] for key in losses} == {key: other[key] for key in losses}


def test_batch_statistics_under_autocast_are_those_of_one_process(twice, tiny_faces, tmp_path):
    one = alone("bf16", BF16, tiny_faces, tmp_path)
    counts = [value for key, value in twice["bf16"]["weights"].items() if "num_batches" in key]
    assert counts
    assert all(value == one["progress"]["step"] for value in counts)
    assert_close(one, twice["bf16"], rtol=0.1, atol=0.03)  # bf16 has 8 bits


def test_a_loss_that_is_not_finite_on_one_rank_is_left_out_on_all(twice):
    assert twice["poisoned"]["progress"]["skipped"] == 2, "batch 1 of both epochs"
    assert all(torch.isfinite(value).all() for value in twice["poisoned"]["weights"].values())
    assert twice["poisoned"]["lines"][-1]["train/skipped_batches"] == 2


@pytest.mark.slow
def test_three_processes_resume_to_the_same_bits(tiny_faces, tmp_path):
    changes = {"training": {"batch_size": 12}}
    scenarios = [
        {"name": "whole", "config": values_of(tiny_faces, tmp_path / "whole", changes=changes)},
        {"name": "resumed", "config": values_of(tiny_faces, tmp_path / "resumed", changes=changes), "stop_after": 3},
    ]  # fmt: skip
    both = launch(scenarios, tmp_path / "ranks", 3)
    assert_close(both["whole"], both["resumed"], rtol=0, atol=0)
