"""Networks of every kind as the backbone of a model that is trained, explained, saved, read again and exported."""

import numpy as np
import pytest
import timm
import torch
from test_backbones import OTHERS
from whole_use import exported_differs_by, normalised, pictures, saved_and_read, trained_two_steps

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.explain.pair import explain_pair
from twin_dcal.models.dcal import DCALVerificationModel


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """The model of one of OTHERS after two steps, read from its file."""

    def make(kind):
        name, options, size, _ = OTHERS[kind]
        create = timm.create_model
        monkeypatch.setattr(timm, "create_model", lambda name, **given: create(name, **options, **given))
        config = TwinVerificationConfig().override(
            {"model.backbone": name, "model.pretrained": False, "model.attention_dim": 16, "model.num_heads": 2,
             "model.num_blocks": 2, "model.glca_pool": "local", "data.image_size": list(size)}
        )  # fmt: skip
        torch.manual_seed(0)
        model = DCALVerificationModel.from_config(config)
        moved = trained_two_steps(model, config)
        for part in (
            "backbone.cnn.",
            "backbone.project.",
            "backbone.position",
            "backbone.blocks.1.",
            "glca_block.",
        ):
            assert any(name.startswith(part) for name in moved), part
        return saved_and_read(model, config, tmp_path / "best_model.pth")

    return make


@pytest.mark.parametrize("kind", OTHERS)
def test_it_trains_is_saved_and_explained(kind, trained):
    loaded = trained(kind)
    _, _, size, grid = OTHERS[kind]
    assert loaded.preprocessing.image_size == size
    told = explain_pair(loaded, *pictures(size, 2), method="gradients", num_matches=0)
    assert told.rollout1.shape == told.glca2.shape == told.glca_chosen1.shape == grid
    assert 0 < told.rollout1.sum() < 1
    assert told.rollout1.std() > 0
    assert not np.array_equal(told.rollout1, told.rollout2)
    with torch.no_grad():
        one, two = loaded.model.embed(normalised(loaded.preprocessing, pictures(size, 2)))
    assert told.similarity == pytest.approx(float(one @ two), abs=1e-5)
    for map_ in (told.attribution1, told.attribution2):
        assert np.isfinite(map_).all()
        assert map_.std() > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_its_exported_model_gives_the_same(kind, trained):
    pytest.importorskip("onnxscript", reason="needs the extra 'onnx'")
    assert exported_differs_by(trained(kind)) < 1e-4
