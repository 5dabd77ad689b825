"""`explain_pair` on a tiny network: what it promises whatever the weights."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_values

from twin_dcal.checkpoint import load_model, save_model
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ConfigError
from twin_dcal.explain.attribution import integrated_gradients
from twin_dcal.explain.faithfulness import rank_correlation, with_shuffled_weights
from twin_dcal.explain.figure import figure_png, pair_figure
from twin_dcal.explain.overlays import SAME, overlay, png
from twin_dcal.explain.pair import METHODS, attributions, explain_pair, explain_pairs, normalized
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.models.dcal import DCALVerificationModel

SIZE = 32
BACKBONES = {"vit": {}, "cnn": {"backbone": "test_resnet", "attention_dim": 16, "num_heads": 2, "num_blocks": 2},
             "sa alone": {"branches": ["sa"], "glca_pool": "cls"}}  # fmt: skip


def saved(folder, **options):
    torch.manual_seed(0)
    values = tiny_values("data", "run")
    values["model"] |= options
    config = TwinVerificationConfig.from_dict(values)
    model = DCALVerificationModel.from_config(config)
    for parameter in model.parameters():  # far from the near-zero start, so that pictures matter
        parameter.data += 0.1 * torch.randn_like(parameter)
    save_model(folder / "best_model.pth", model, config)
    return folder / "best_model.pth"


@pytest.fixture(scope="module", params=BACKBONES.values(), ids=BACKBONES)
def loaded(request, tmp_path_factory):
    return load_model(saved(tmp_path_factory.mktemp("model"), **request.param))


def faces(seed):
    rng = np.random.default_rng(seed)
    patterns = rng.uniform(0, 255, (2, 4, 4, 3))
    return np.kron(patterns, np.ones((1, 8, 8, 1))).astype(np.uint8)


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_plain_arrays_of_both_pictures(loaded, method):
    one, two = faces(0)
    told = explain_pair(loaded, one, two, method=method)
    embedded = loaded.model.embed(normalized(loaded, np.stack([one, two]))).detach()
    assert told.similarity == pytest.approx(float(embedded[0] @ embedded[1]), abs=1e-5)
    grid = loaded.model.backbone.grid
    assert told.rollout1.shape == told.rollout2.shape == grid
    assert (told.glca1 is None) == ("glca" not in loaded.model.branches)
    for map_ in (told.attribution1, told.attribution2):
        assert map_.shape == (8, 8)
        assert map_.dtype == np.float32
        assert np.isfinite(map_).all()
    if told.glca1 is not None:
        assert told.glca_chosen1.sum() == max(1, round(loaded.model.local_ratio * grid[0] * grid[1]))
        assert told.glca_uses_chosen == (loaded.model.glca_pool == "local")
    assert 1 <= len(told.matches) <= 6
    assert json.loads(json.dumps(told.to_dict()))["rollout1"] == told.rollout1.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_pictures_change_places(loaded, method):
    one, two = faces(1)
    there, back = (explain_pair(loaded, *pair, method=method) for pair in ((one, two), (two, one)))
    np.testing.assert_allclose(there.attribution1, back.attribution2, atol=1e-5)
    np.testing.assert_allclose(there.rollout1, back.rollout2, atol=1e-6)
    assert {(match.first, match.second) for match in there.matches[:2]} == {
        (match.second, match.first) for match in back.matches[:2]
    }


@pytest.mark.parametrize("method", METHODS)
def test_the_same_twice_and_in_a_batch_and_the_model_is_left_alone(loaded, method):
    ones, twos = faces(2), faces(3)
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    single = [explain_pair(loaded, *pair, method=method) for pair in zip(ones, twos, strict=True)]
    with torch.inference_mode():
        batch = explain_pairs(loaded, ones, twos, method=method)
    for one, two in zip(single, batch, strict=True):
        np.testing.assert_array_equal(one.attribution1, two.attribution1)
        assert one.matches == two.matches
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(before[name], value)
    assert all(parameter.grad is None for parameter in loaded.model.parameters())
    assert not loaded.model.training


def test_gradients_share_out_the_whole_difference(loaded):
    pair = normalized(loaded, faces(4))
    one, two = loaded.model.embed(pair).detach()
    total = float(integrated_gradients(loaded.model.embed, pair, 8, 100).sum())
    assert total == pytest.approx(float(one @ two) - 1, abs=0.02 * float(1 - one @ two) + 1e-4)


def test_a_picture_beside_itself_has_nothing_different(loaded):
    one, _ = faces(5)
    told = explain_pair(loaded, one, one, method="gradients")
    assert told.similarity == pytest.approx(1, abs=1e-5)
    assert np.abs(told.attribution1).max() < 1e-6
    assert all(match.strength > 0 for match in told.matches)


def test_other_weights_make_other_maps(loaded):
    """Adebayo et al. 2018: a map that survives shuffled weights tells of the picture, not of the model."""
    shuffled = with_shuffled_weights(loaded.model, 0)
    agreement = {method: [] for method in METHODS}
    for seed in range(6):
        pair = normalized(loaded, faces(seed))
        ours, other = (attributions(model, pair) for model in (loaded.model, shuffled))
        for method, found in agreement.items():
            found.append(rank_correlation(ours[method][0], other[method][0]))
    assert {method: found for method, found in agreement.items() if abs(np.mean(found)) >= 0.5} == {}


def test_what_cannot_be_explained_is_one_clear_line(loaded):
    one, two = faces(0)
    with pytest.raises(ConfigError, match="method 'lime' is unknown; use "):
        explain_pair(loaded, one, two, method="lime")
    with pytest.raises(ConfigError, match="explanations take 32x32 uint8 RGB pictures, given: uint8"):
        explain_pair(loaded, one[:16], two)
    with pytest.raises(ConfigError, match="given: float64"):
        explain_pair(loaded, one / 255, two)
    with pytest.raises(ConfigError, match="only embeds; explanations need the run's best_model.pth"):
        explain_pair(object(), one, two)


def test_the_engine_tells_attention_maps(tmp_path):
    engine = TwinInferenceEngine(saved(tmp_path), device="cpu", threshold=0.5, align="never")
    one, two = (Image.fromarray(pixels) for pixels in faces(6))
    result = engine.verify_pair(one, two, return_attention=True)
    maps = json.loads(json.dumps(result.to_dict()))["attention_maps"]
    assert maps["similarity"] == pytest.approx(result.similarity, abs=1e-5)
    assert np.shape(maps["attribution1"]) == (8, 8)
    assert engine.verify_pair(one, two).attention_maps is None


def test_overlays_colour_by_sign_and_leave_nothing_grey_where_the_map_is_silent():
    face = np.full((32, 32, 3), (224, 172, 105), np.uint8)
    map_ = np.zeros((4, 4))
    map_[0, 0], map_[3, 3], map_[0, 3] = 1, -1, 0.5
    drawn = overlay(face, map_, signed=True).astype(int)
    red, green, blue = (drawn[2, 2, channel] for channel in range(3))
    assert blue > green > red
    assert drawn[29, 29, 0] > drawn[29, 29, 1] > drawn[29, 29, 2]
    assert len(set(drawn[29, 2])) == 1
    weaker = overlay(face, map_, signed=True, reach=2.0).astype(int)
    assert weaker[2, 2, 2] - weaker[2, 2, 0] < blue - red
    black, white = (
        overlay(np.full((8, 8, 3), tone, np.uint8), np.ones((2, 2)), signed=True) for tone in (0, 255)
    )
    for tone in (black, white):  # the same hue on the darkest and the brightest skin
        assert np.abs(tone[4, 4].astype(int) - SAME).max() < 60
    assert overlay(face, np.ones((2, 2)), signed=False).shape == face.shape
    assert png(black).startswith(b"\x89PNG")


def test_a_figure_shows_every_map_and_repeats_itself(loaded, drawn_figures):
    one, two = faces(7)
    told = explain_pair(loaded, one, two)
    truth = (np.eye(SIZE), np.eye(SIZE))
    figure = pair_figure(told, one, two, title="decision: same person", truth=truth)
    columns = 6 if "glca" not in loaded.model.branches else 8
    assert len(figure.axes) == 2 * (columns - 1)
    assert "decision: same person" in figure.get_suptitle()
    assert f"{told.similarity:+.3f}" in figure.get_suptitle()
    assert figure_png(figure) == figure_png(
        pair_figure(told, one, two, title="decision: same person", truth=truth)
    )
