"""The configuration of a run that takes a second, for tests anywhere."""

from pathlib import Path
from typing import Any

from twin_dcal.checkpoint import save_model
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.models.dcal import DCALVerificationModel


def tiny_values(data_dir: Path, output_dir: Path) -> dict:
    return {
        "model": {
            "backbone": "test_vit", "pretrained": False, "drop_path": 0.1, "dropout": 0.1, "glca_pool": "local",
        },
        "training": {
            "batch_size": 8, "images_per_person": 2, "num_epochs": 2, "learning_rate": 1e-3,
            "lr_reference_batch": None, "warmup_epochs": 0.5,
        },
        "data": {"data_dir": str(data_dir), "image_size": 32},
        "runtime": {"output_dir": str(output_dir), "num_workers": 0, "device": "cpu", "num_threads": 1},
    }  # fmt: skip


def tiny_model(folder: Path, **stored: Any) -> Path:
    """An untrained checkpoint; `stored` are threshold, calibration and error curve."""
    config = TwinVerificationConfig.from_dict(tiny_values(folder, folder))
    path = folder / "best_model.pth"
    save_model(path, DCALVerificationModel.from_config(config), config, **stored)
    return path
