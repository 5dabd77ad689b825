"""Does loading keep up with training? Images per second and core, and the share of a step that waits for data.

    OMP_NUM_THREADS=1 python benchmarks/loading.py [--data-dir FACES] [--image-size 224] [--backbone …] [--device cuda]

Without --data-dir, SynTwins are drawn first. Decode alone, and decode with this project's default training augmentation
or evaluation transform, run in one process on one thread in turn; a rate is images per CPU second, so a busy neighbour
does not count. Waiting is measured in training itself, for each number of workers: the share of wall time between
asking for a batch and having it.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from measure import alternate

from twin_dcal.cli import synth
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.images import read_image
from twin_dcal.training.loop import Trainer

TARGET = 900


def data_of(options, home, num_workers=0):
    data_dir = options.data_dir
    if data_dir is None:
        data_dir = home / "faces"
        if not data_dir.exists():
            size = str(options.image_size)
            synth.main(["--output", str(data_dir), "--families", "24", "--images", "8", "--image_size", size])
    config = TwinVerificationConfig.from_dict({
        "model": {"backbone": options.backbone, "pretrained": False},
        "training": {"batch_size": 32, "num_epochs": 1, "warmup_epochs": 0},
        "data": {"data_dir": str(data_dir), "image_size": options.image_size},
        "runtime": {"device": options.device, "num_workers": num_workers, "save_every_minutes": None},
    })  # fmt: skip
    data = TwinDataModule(config)
    data.setup()
    return config, data


def rates(data, rounds):
    """Images per CPU second of each stage, one figure a round."""
    paths = data.face_data.train.paths[:256]
    stages = {
        "decode": lambda image: image,
        "decode + evaluation transform": data.evaluation_transform,
        "decode + augment": data.train_transform,
    }
    steps = {
        name: lambda transform=transform: [transform(read_image(path)) for path in paths]
        for name, transform in stages.items()
    }
    spent = alternate(steps, rounds, torch.device("cpu"))
    return {name: [len(paths) / second for second in seconds] for name, seconds in spent.items()}, paths


def waiting(options, home, num_workers, max_batches):
    """Share of wall time that training waits for data, and images per second, after a first batch."""
    config, data = data_of(options, home, num_workers)
    trainer = Trainer(config, data, home / "run")
    trainer.model.train()
    batches, num = iter(trainer.loader), min(max_batches, len(trainer.loader))
    trainer._train_batch(next(batches), num)
    waited = images = 0
    began = asked = time.monotonic()
    for _ in range(num - 1):
        batch = next(batches)
        waited += time.monotonic() - asked
        trainer._train_batch(batch, num)
        images += len(batch["image"])
        asked = time.monotonic()
    seconds = time.monotonic() - began
    return waited / seconds, images / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--backbone", default="vit_small_patch16_224")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=6, help="of training, for the waiting")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        _, data = data_of(options, home)
        measured, paths = rates(data, options.rounds)
        size = statistics.mean(path.stat().st_size for path in paths) / 1000
        pixels = tuple(read_image(paths[0]).shape[1:])
        print(
            f"{len(paths)} files of {size:.0f} KB on average, the first of {pixels}, to {options.image_size} px"
        )
        for name, found in measured.items():
            spread = f"[{min(found):.0f}, {max(found):.0f}]"
            print(f"{name:<32} {statistics.median(found):6.0f} images per CPU second  {spread}")
        word = "meets" if statistics.median(measured["decode + augment"]) >= TARGET else "MISSES"
        print(f"decode + augment {word} the target of {TARGET}")
        for num_workers in (0, 1, 2):
            share, rate = waiting(options, home, num_workers, options.batches)
            print(f"{options.backbone} on {options.device}, {num_workers} workers: waits {share:.1%} of the time, "
                  f"{rate:.1f} images/s")  # fmt: skip


if __name__ == "__main__":
    main()
