"""What the page offers for a real model: the decision of the engine and the maps of `explain`, from one pass."""

import numpy as np
import pytest
import torch
from tiny import tiny_values
from tiny_face import tiny_face_onnx

from twin_dcal.checkpoint import save_model
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ConfigError
from twin_dcal.explain.attention import attention_maps
from twin_dcal.inference.aligning import Prepared
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.web.explaining import explanations

NETWORKS = {"local": {}, "cls": {"glca_pool": "cls"}, "sa alone": {"branches": ["sa"], "glca_pool": "cls"},
            "cnn": {"backbone": "test_resnet", "attention_dim": 16, "num_heads": 2, "num_blocks": 2}}  # fmt: skip


@pytest.fixture(params=NETWORKS)
def engine(request, tmp_path):
    torch.manual_seed(0)
    values = tiny_values(tmp_path, tmp_path)
    values["model"] |= NETWORKS[request.param]
    config = TwinVerificationConfig.from_dict(values)
    save_model(tmp_path / "best_model.pth", DCALVerificationModel.from_config(config), config)
    return TwinInferenceEngine(tmp_path / "best_model.pth", "cpu", threshold=0.5, align="never")


@pytest.fixture
def pair():
    rng = np.random.default_rng(3)
    return [Prepared(rng.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(2)]


def test_attention_comes_with_the_decision_in_one_pass(engine, pair, monkeypatch):
    model = engine.backend.model
    expected = engine.decide(*pair)
    images = engine.backend.normalized(np.stack([picture.pixels for picture in pair]))
    maps = attention_maps(model, images)
    tokens, passes = model.backbone.tokens, []
    monkeypatch.setattr(model.backbone, "tokens", lambda images: passes.append(len(images)) or tokens(images))
    result, told = explanations(engine)["attention"](*pair)
    assert passes == [2]
    assert result.similarity == pytest.approx(expected.similarity, abs=1e-6)
    assert result.same_person is expected.same_person
    assert (result.threshold, result.warnings) == (expected.threshold, expected.warnings)
    assert np.array_equal(told.rollout, maps.rollout)
    assert told.pair is None
    if "glca" not in model.branches:
        assert told.glca_attention is told.glca_regions is None
        return
    assert np.array_equal(told.glca_attention, maps.glca)
    assert np.array_equal(told.glca_regions, maps.glca_chosen)
    assert told.regions_count is (model.glca_pool == "local")


def test_a_pair_is_explained_beside_its_decision(engine, pair):
    result, told = explanations(engine)["pair"](*pair)
    assert result.similarity == engine.decide(*pair).similarity
    assert np.shape(told.pair) == (2, 8, 8)


def test_an_exported_model_only_embeds(engine, pair):
    object.__setattr__(engine.source, "format", "onnx")
    assert explanations(engine) == {}
    with pytest.raises(ConfigError, match="an exported model only embeds"):
        engine.verify_with_attention(*pair)


def test_a_face_network_alone_attends_to_nothing(pair, tmp_path):
    tiny_face_onnx(tmp_path / "face.onnx")
    config = TwinVerificationConfig().override(
        {"model.backbone": "onnx", "model.pretrained": str(tmp_path / "face.onnx"), "model.attention_dim": None,
         "model.num_heads": 2, "model.num_blocks": 0, "model.branches": ["sa"], "data.image_size": 32}
    )  # fmt: skip
    save_model(tmp_path / "best_model.pth", DCALVerificationModel.from_config(config), config)
    alone = TwinInferenceEngine(tmp_path / "best_model.pth", "cpu", threshold=0.5, align="never")
    assert -1 <= alone.decide(*pair).similarity <= 1
    assert explanations(alone) == {}
    for ask in (
        lambda: alone.explain(pair[0].pixels, pair[1].pixels),
        lambda: alone.verify_with_attention(*pair),
    ):
        with pytest.raises(
            ConfigError, match=r"a face network alone \(model\.num_blocks 0\), without attention"
        ):
            ask()
