"""Presets: ready-made configurations by name. Data only; what they leave out keeps the schema's default.

A new one is an entry of `PRESETS`; one that is made for a GPU has an entry in `WITHOUT_GPU` too.
"""

from typing import Any

# 2 GPUs of 11 GB: 8 images a GPU, 16 in all, x 4 steps = 64.
_DEFAULT: dict[str, Any] = {
    "model": {"backbone": "vit_base_patch16_224"},
    "training": {
        "batch_size": 16, "accumulation_steps": 4, "num_epochs": 200, "learning_rate": 3e-4,
        "lr_reference_batch": 64, "weight_decay": 0.01, "warmup_epochs": 20, "clip_norm": 1.0,
    },
    "data": {"image_size": 448},
    "tracking": {"backend": "mlflow", "required": False},
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "default": _DEFAULT,
    "single_gpu": {
        "model": {"backbone": "vit_base_patch16_224"},
        "training": {
            "batch_size": 8, "accumulation_steps": 8, "num_epochs": 200, "learning_rate": 3e-4,
            "warmup_epochs": 20,
        },
        "data": {"image_size": 448},
        "runtime": {"gradient_checkpointing": True},
    },
    "kaggle": {
        "model": {"backbone": "vit_base_patch16_224"},
        "training": {
            "batch_size": 16, "accumulation_steps": 4, "num_epochs": 100, "learning_rate": 3e-4,
            "warmup_epochs": 10,
        },
        "data": {"image_size": 448},
        "tracking": {"backend": "wandb", "required": False, "wandb_project": "twin-dcal"},  # offline without a key
        "runtime": {"amp": "fp16", "max_hours": 11.5},  # of the session's 12
    },
    "no_tracking": {**_DEFAULT, "tracking": {"backend": "none"}},
    "debug": {
        "model": {"backbone": "vit_tiny_patch16_224", "pretrained": False},
        "training": {"batch_size": 8, "num_epochs": 5, "warmup_epochs": 1},
        "data": {"image_size": 64},
    },
    # On top of a face network, whose file model.pretrained names: docs/face_networks.md.
    "face": {
        "model": {
            "backbone": "onnx", "attention_dim": None, "num_heads": 4, "num_blocks": 2, "frozen_stride": 4,
            "drop_path": 0.0,
        },
        "training": {
            "batch_size": 48, "num_epochs": 10, "learning_rate": 1e-4, "lr_reference_batch": None,
            "backbone_lr_factor": 4.0, "warmup_epochs": 0.5, "weight_decay": 0.05, "clip_norm": 10.0,
            "best_by": "mean_eer",
        },
        "loss": {"head": "pairs", "scale": 16.0, "margin": 0.0, "triplet_weight": 0.0, "uncertainty_weighting": False},
        "data": {"image_size": 224, "min_crop_area": 0.9, "erase_probability": 0.0},
    },
    # A tiny CNN with two blocks on top, and cross-entropy over the people of a batch. Twin-first triplets would keep
    # so small a network, which starts from nothing, near chance for many epochs (docs/results.md).
    "quickstart": {
        "model": {
            "backbone": "test_resnet", "pretrained": False, "attention_dim": 128, "num_heads": 4, "num_blocks": 2,
            "drop_path": 0.0,
        },
        "training": {
            "batch_size": 64, "num_epochs": 22, "learning_rate": 1e-3, "lr_reference_batch": None,
            "warmup_epochs": 1, "weight_decay": 0.05, "best_by": "mean_eer", "validate_every": 3,
        },
        "loss": {"triplet_weight": 0, "softmax_over": "batch"},
        "data": {"image_size": 64, "augmentation": False},
        "runtime": {"output_dir": "runs/quickstart"},
    },
}  # fmt: skip

_SMALL_BATCH = {
    "training.batch_size": 8,
    "training.accumulation_steps": 8,
}  # as large a step, half the memory

ON_HUB = frozenset({"vit_base_patch16_224"})
"""Backbones of presets whose weights timm fetches from the model hub."""

WITHOUT_GPU: dict[str, dict[str, Any]] = {
    "default": _SMALL_BATCH,
    "single_gpu": {},
    "kaggle": {"runtime.amp": "off", **_SMALL_BATCH},
    "no_tracking": _SMALL_BATCH,
}
"""Presets that are made for a GPU, and what changes of them on a machine without one."""
