"""The default attribution is the mean of two maps of very different size, each on its own scale."""

import numpy as np
import pytest
import torch
from tiny import tiny_values

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.explain.pair import DEFAULT, attributions
from twin_dcal.models.dcal import DCALVerificationModel


def test_combined_gives_both_methods_the_same_weight():
    torch.manual_seed(0)
    model = DCALVerificationModel.from_config(
        TwinVerificationConfig.from_dict(tiny_values("data", "run"))
    ).eval()
    pair = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    maps = attributions(model, pair)
    parts = [maps[name] / np.abs(maps[name]).mean() for name in ("occlusion", "gradients")]
    np.testing.assert_allclose(maps[DEFAULT], (parts[0] + parts[1]) / 2, rtol=1e-5, atol=1e-6)
    assert np.abs(parts[0]).mean() == pytest.approx(np.abs(parts[1]).mean())


def test_nothing_to_attribute_is_a_map_of_nothing():
    torch.manual_seed(0)
    model = DCALVerificationModel.from_config(
        TwinVerificationConfig.from_dict(tiny_values("data", "run"))
    ).eval()
    flat = torch.zeros(2, 3, 32, 32)
    combined = attributions(model, flat)["combined"]
    assert np.isfinite(combined).all()
