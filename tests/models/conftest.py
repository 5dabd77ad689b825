"""Fixtures of the model tests."""

import pytest
import torch
from tiny_vits import PLAIN, randomise, tiny_vit

from twin_dcal.models import dcal
from twin_dcal.models.backbone import ViTBackbone


@pytest.fixture
def tiny_model(monkeypatch):
    """Builds a DCAL model of a `tiny_vit` in float64, in training mode: ``tiny_model(vit=REGISTERS, …)``."""

    def build(vit=PLAIN, **options):
        monkeypatch.setattr(dcal, "build_backbone", lambda *_, **__: ViTBackbone(tiny_vit(**vit), "tiny"))
        return randomise(dcal.DCALVerificationModel("tiny", image_size=24, **options)).double()

    return build


@pytest.fixture
def images():
    return torch.randn(4, 3, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
