"""Run in tests: trains several configurations one after another, in N processes that are one run.

    python rank_worker.py SCENARIOS.json FOLDER N

A scenario: {"name", "config", and optionally "stop_after" (optimizer steps; then resumed by a new trainer),
"resume_as" (overrides of the resumed one), "poison" (batches whose images become NaN)}. Rank 0 writes NAME.pt.
"""

import json
import sys
from pathlib import Path

import torch
from forked_ranks import start

from twin_dcal import distributed
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.training.loop import Trainer
from twin_dcal.training.parallel import full_state_dict
from twin_dcal.training.state import find_state


class Lines:
    """A tracker that keeps what it is told."""

    def __init__(self):
        self.figures = []

    def log(self, figures, *, step, epoch):
        self.figures.append({"step": step, "epoch": epoch, **figures})

    def close(self):
        pass


def trainer_of(values, folder):
    config = TwinVerificationConfig.from_dict(values)
    data = TwinDataModule(config)
    data.setup()
    return Trainer(config, data, folder)


def stop_after(trainer, steps):
    """Ask rank 1 alone to stop; all must."""
    step = trainer._step

    def counted(index):
        step(index)
        if distributed.rank() == distributed.world_size() - 1:
            trainer.stop.received = trainer.progress.step >= steps

    trainer._step = counted


def poison(trainer, numbers):
    train_batch = trainer._train_batch

    def poisoned(batch, num_batches):
        if trainer.progress.batch in numbers and distributed.rank() == 0:
            batch = {**batch, "image": batch["image"].float() * float("nan")}
        return train_batch(batch, num_batches)

    trainer._train_batch = poisoned


def run(scenario, folder):
    folder = folder / scenario["name"]
    trainer, lines = trainer_of(scenario["config"], folder), Lines()
    poison(trainer, scenario.get("poison", []))
    if "stop_after" in scenario:
        stop_after(trainer, scenario["stop_after"])
        assert not trainer.fit(lines).finished
        distributed.barrier()
        torch.manual_seed(999)
        values = TwinVerificationConfig.from_dict(scenario["config"]).override(scenario.get("resume_as", {}))
        trainer = trainer_of(values.model_dump(), folder)
        path, state = find_state(folder, "auto")
        trainer.checkpoints.resume(state, path)
    result = trainer.fit(lines)
    assert result.finished
    outcome = {
        "weights": full_state_dict(trainer.model.state_dict()), "loss": full_state_dict(trainer.loss.state_dict()),
        "lines": lines.figures, "progress": vars(trainer.progress), "random": torch.rand(4),
    }  # fmt: skip
    everyones = distributed.gather_objects(outcome)
    for other in everyones[1:]:
        for part in ("weights", "loss"):
            for key, value in outcome[part].items():
                assert torch.equal(value, everyones[0][part][key]), f"{key} differs between ranks"
                assert torch.equal(other[part][key], everyones[0][part][key]), f"{key} differs between ranks"
        assert not torch.equal(other["random"], everyones[0]["random"]), "ranks draw the same numbers"
    return outcome


def work(rank, scenarios, folder):
    with distributed.process_group("cpu"):
        for scenario in scenarios:
            outcome = run(scenario, folder)
            if distributed.is_main():
                torch.save(outcome, folder / f"{scenario['name']}.pt")


if __name__ == "__main__":
    scenarios = json.loads(Path(sys.argv[1]).read_text())
    start(work, (scenarios, Path(sys.argv[2])), int(sys.argv[3]))
