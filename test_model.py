#!/usr/bin/env python
"""Verify an installation in well under 30 s: versions, devices, one step per branch, one pair score.

python test_model.py
"""

import platform
import sys
import time


def main() -> int:
    began = time.monotonic()
    try:
        import timm
        import torch
        import torchvision

        import twin_dcal
        from twin_dcal.config import LossConfig
        from twin_dcal.losses import DCALLoss
    except ImportError as error:
        print(f"not installed: {error}. Run: pip install -e .")
        return 1
    versions = {"python": platform.python_version(), "twin_dcal": twin_dcal.__version__}
    versions |= {module.__name__: module.__version__ for module in (torch, torchvision, timm)}
    print("versions  " + "  ".join(f"{name} {version}" for name, version in versions.items()))
    devices = [
        "cpu",
        *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())),
    ]
    print("devices   " + ", ".join(devices))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    torch.manual_seed(0)
    model = twin_dcal.DCALVerificationModel("vit_tiny_patch16_224", image_size=64, glca_pool="local").to(
        device
    )
    loss = DCALLoss(model.width, 2, model.branches, LossConfig()).to(device)
    images, people = torch.randn(4, 3, 64, 64, device=device), torch.tensor([0, 0, 1, 1], device=device)
    for branch in model.branches:
        # Forward and backward of this branch alone; PWCA's distractors are the other images.
        embedding = model.train()(images).active()[branch]
        total, _ = loss({branch: embedding}, people, torch.zeros_like(people))
        total.backward()
        norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        gradient = torch.stack(norms).norm()
        model.zero_grad(set_to_none=True)
        if not (torch.isfinite(total) and torch.isfinite(gradient) and gradient > 0):
            print(f"{branch:<9} FAILED: loss {total.item()}, gradient {gradient.item()}")
            return 1
        print(
            f"{branch:<9} loss {total.item():.3f}, gradient norm {gradient.item():.3f} over {len(norms)} tensors"
        )
    with torch.inference_mode():
        features = model.eval().embed(images[:2])
    score = float(features[0] @ features[1])
    print(f"pair      cosine {score:.4f} of two random images through an untrained model")
    print(f"OK in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
