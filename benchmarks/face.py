"""CPU time of training on top of a face network: frozen stages kept, pair-wise attention in some of the blocks.

    OMP_NUM_THREADS=1 python benchmarks/face.py --network FILE.onnx --data_dir FACES

Prints CPU seconds of an epoch over the training crops with everything frozen, images read anew or kept, and the cost of
a step with pair-wise attention in all, half or a quarter of the blocks, as ratios to SA alone, measured alternately.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.losses import DCALLoss
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.training.loop import Trainer
from twin_dcal.training.objective import Objective

ROUNDS = 5


def epoch_seconds(options: argparse.Namespace, folder: Path, **changes: object) -> tuple[float, float, int]:
    """CPU seconds of preparing and of one epoch's steps, and the number of images seen."""
    values = {
        "model.backbone": "onnx", "model.pretrained": options.network, "model.attention_dim": None,
        "model.num_heads": 4, "model.num_blocks": 1, "model.branches": ["sa"], "model.frozen_stride": 16,
        "model.feature_strides": [16],
        "data.data_dir": options.data_dir, "data.crop_template": "ours", "loss.head": "pairs",
        "loss.triplet_weight": 0.0,
        "training.batch_size": 48, "training.num_epochs": 1, "runtime.num_workers": 0, "runtime.device": "cpu",
        "runtime.output_dir": str(folder),
    }  # fmt: skip
    config = TwinVerificationConfig.preset("face").override(values | changes)
    data = TwinDataModule(config)
    data.setup()
    began = time.process_time()
    trainer = Trainer(config, data, folder)
    prepared = time.process_time() - began
    trainer.sampler.set_epoch(0, 0)
    trainer.model.train()
    began, seen = time.process_time(), 0
    for batch in trainer.loader:
        trainer._train_batch(batch, trainer.sampler.num_batches)
        seen += len(batch["index"])
    return prepared, time.process_time() - began, seen


def step_ratios(network: str) -> None:
    torch.manual_seed(0)
    people, families, index = torch.arange(24) // 4, torch.arange(24) // 8, torch.arange(24)
    config = TwinVerificationConfig.preset("face").override(
        {
            "model.pretrained": network,
            "model.num_blocks": 4,
            "data.crop_template": "none",
            "data.image_size": 112,
        }
    )
    objectives = {}
    for name, changes in {
        "SA": {"model.branches": ["sa"]}, "SA+GLCA": {"model.branches": ["sa", "glca"]}, "all, PWCA in 4 of 4": {},
        "all, PWCA in 2 of 4": {"model.pwca_blocks": 2}, "all, PWCA in 1 of 4": {"model.pwca_blocks": 1},
    }.items():  # fmt: skip
        changed = config.override(changes)
        model = DCALVerificationModel.from_config(changed).train()
        loss = DCALLoss(model.width, 6, model.branches, changed.loss)
        objectives[name] = Objective(model, loss, across_ranks=True, amp_dtype=None)
    images = torch.randn(24, 3, 112, 112)
    spent: dict[str, list[float]] = {name: [] for name in objectives}
    for _ in range(ROUNDS):
        for name, objective in objectives.items():
            began = time.process_time()
            objective(images, people, families, index).loss.backward()
            spent[name].append(time.process_time() - began)
    plain = min(spent["SA"])
    print("step of 24 images, four blocks on 14 x 14 tokens, CPU time relative to SA (least of five):")
    for name, seconds in spent.items():
        print(f"  {name:22s} {min(seconds) / plain:5.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", required=True, metavar="FILE.onnx")
    parser.add_argument("--data_dir", required=True, metavar="FACES")
    options = parser.parse_args()
    torch.set_num_threads(1)
    step_ratios(options.network)
    with tempfile.TemporaryDirectory() as folder:
        for name, changes in {"read anew": {}, "kept": {"training.cached_views": 2}}.items():
            prepared, seconds, seen = epoch_seconds(options, Path(folder, name), **changes)
            print(
                f"epoch, all frozen, images {name}: {seconds:.1f} s for {seen} images, {prepared:.1f} s before"
            )


if __name__ == "__main__":
    main()
