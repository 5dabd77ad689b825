"""Tiny vision transformers whose weights are far from their near-zero start, so that attention is not flat."""

import torch
from timm.models.vision_transformer import VisionTransformer

PLAIN: dict = {}
REGISTERS = {"reg_tokens": 2, "init_values": 0.5, "qk_norm": True}


def randomise(module, seed=0):
    """Weights of order 1/√width, norms and scales around 1, everything else small but not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim == 2:
                parameter.copy_(1.5 * noise / parameter.shape[1] ** 0.5)
            elif name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "gamma")):
                parameter.copy_(1 + 0.3 * noise)
            else:
                parameter.copy_(0.3 * noise)
    return module


def tiny_vit(**options):
    """3 blocks of 2 heads, width 16, 9 patches of 8 pixels."""
    vit = VisionTransformer(
        img_size=24, patch_size=8, embed_dim=16, depth=3, num_heads=2, num_classes=0, **options
    )
    vit.pretrained_cfg = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    return vit
