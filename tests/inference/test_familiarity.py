"""A model says what it was trained on, and warns about pictures that look otherwise."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_model

from twin_dcal import TwinInferenceEngine
from twin_dcal.checkpoint import load_model, read_model_content, write_tensors
from twin_dcal.errors import ModelError
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.model_file.entries import read_familiarity
from twin_dcal.model_file.familiarity import MIN_IMAGES, NUM_LOOKS, Familiarity, looks, looks_of_files
from twin_dcal.model_file.provenance import attention_warnings, training_warnings
from twin_dcal.synth.folder import are_drawn
from twin_dcal.training.run import train

UNLIKE = "it looks unlike the pictures the model was trained on"


def picture(seed, noise=6.0, cells=4, size=64):
    """A smooth pattern of random colours with noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(60, 200, (cells, cells, 3)).astype(np.uint8))
    smooth = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), float)
    return np.clip(smooth + rng.normal(0, noise, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def statement():
    known = np.array([looks(picture(seed)) for seed in range(600)])
    return Familiarity.of(known[:300], known[300:], "patterns")


@pytest.fixture(scope="module")
def told(statement, tmp_path_factory):
    """A model with the statement."""
    torch.manual_seed(0)
    return tiny_model(
        tmp_path_factory.mktemp("told"), threshold=Threshold(0.5, {}), familiarity=statement,
        training={"faces": "drawn"},
    )  # fmt: skip


def test_new_pictures_of_the_kind_are_warned_about_as_often_as_promised(statement):
    new = np.array([looks(picture(seed)) for seed in range(1000, 1400)])
    beyond = (statement.distance(new) > statement.limit).mean()
    assert 0 < beyond < 0.03  # 1 %, of 400


@pytest.mark.parametrize("other", [{"noise": 0}, {"noise": 20}, {"cells": 12}])
def test_pictures_of_another_kind_are_warned_about(statement, other):
    distances = statement.distance([looks(picture(seed, **other)) for seed in range(50)])
    assert (distances > statement.limit).mean() > 0.95


def test_the_limit_is_that_of_the_validation_pictures(statement):
    known = np.array([looks(picture(seed)) for seed in range(300, 600)])
    distances = np.sort(statement.distance(known))
    assert statement.limit == pytest.approx(distances[int(np.ceil(0.99 * 301)) - 1], rel=1e-5)
    judged = statement.judged(picture(300))
    assert judged["distance"] == pytest.approx(statement.distance(known[:1])[0], abs=1e-4)
    assert judged["share"] == pytest.approx((distances < judged["distance"]).mean(), abs=0.02)
    assert judged["beyond"] is False
    assert statement.judged(picture(0, noise=0))["share"] == 1


def test_distances_are_those_of_mahalanobis_where_pictures_abound():
    rng = np.random.default_rng(0)
    mixing = np.eye(NUM_LOOKS) + rng.normal(0, 0.05, (NUM_LOOKS, NUM_LOOKS))
    train, other = (rng.normal(size=(size, NUM_LOOKS)) @ mixing + 3 for size in (20_000, 50))
    made = Familiarity.of(train, train[:100], "numbers")
    inverse = np.linalg.inv(np.cov(train.T))
    expected = [np.sqrt((x - train.mean(0)) @ inverse @ (x - train.mean(0)) / NUM_LOOKS) for x in other]
    assert made.distance(other) == pytest.approx(expected, rel=0.02)


def test_a_set_is_warned_about_where_clearly_more_are_beyond_than_expected(statement):
    near, far = (looks(picture(2000, noise=noise)) for noise in (6, 0))
    assert statement.many_unlike_warning([near] * 95 + [far] * 5) == ()
    (text,) = statement.many_unlike_warning([near] * 90 + [far] * 10)
    assert text.startswith("10 % of 100 pictures looked at are unlike those")
    assert statement.many_unlike_warning(np.empty((0, NUM_LOOKS))) == ()
    few = replace(statement, num_validation=24)  # whose furthest is the limit: 1 in 25 is expected beyond it
    assert few.many_unlike_warning([near] * 80 + [far] * 20) == ()
    assert few.many_unlike_warning([near] * 79 + [far] * 21) != ()


def test_too_few_pictures_say_nothing():
    some = np.zeros((MIN_IMAGES, NUM_LOOKS))
    assert Familiarity.of(some[1:], some, "few") is None
    assert Familiarity.of(some, some[1:], "few") is None
    assert Familiarity.of(some, some, "enough, all alike") is not None


def test_files_that_cannot_be_read_are_left_out_and_many_are_thinned(tmp_path):
    for number in range(6):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    paths = sorted(tmp_path.iterdir())
    assert len(looks_of_files(paths, 64)) == 5
    assert np.array_equal(looks_of_files(paths, 64, most=3)[1], looks(picture(2)))
    assert looks_of_files([], 64).shape == (0, NUM_LOOKS)


def test_results_say_how_far_each_picture_is_and_warn_beyond(told):
    engine = TwinInferenceEngine(told, "cpu", align="never")
    near, far = picture(2000, size=32), picture(2000, noise=0, cells=16, size=32)
    result = engine.verify_pair(far, far)
    assert [text.split(":")[0] for text in result.warnings if UNLIKE in text] == ["img1", "img2"]
    assert result.familiarity[0]["beyond"] is True
    assert result.familiarity[0]["distance"] > result.familiarity[0]["limit"]
    assert json.loads(json.dumps(result.to_dict()))["familiarity"][1]["share"] == 1
    mixed = engine.batch_verify([(picture(2001), far), (near, far)], on_error="raise")
    assert [text.split(":")[0] for text in mixed[0]["warnings"] if UNLIKE in text] in (
        ["img2"],
        ["img1", "img2"],
    )
    assert mixed[0]["familiarity"][1] == result.familiarity[0]
    assert len(mixed[0]["familiarity"]) == 2


def test_a_familiar_picture_is_not_warned_about(told):
    engine = TwinInferenceEngine(told, "cpu", align="never")
    assert engine.source.image_size == 32
    shrunk = [np.asarray(Image.fromarray(picture(seed)).resize((32, 32))) for seed in range(60)]
    known = Familiarity.of(
        [looks(pixels) for pixels in shrunk[:30]], [looks(pixels) for pixels in shrunk[30:]], "small"
    )
    path = told.parent / "small.pth"
    write_tensors(path, read_model_content(told) | {"familiarity": known.to_dict()})
    result = TwinInferenceEngine(path, "cpu", align="never").verify_pair(shrunk[0], shrunk[1])
    assert [judged["beyond"] for judged in result.familiarity] == [False, False]
    assert not any(UNLIKE in text for text in result.warnings)


def test_a_model_without_the_statement_says_nothing(tmp_path):
    path = tiny_model(tmp_path, threshold=Threshold(0.5, {}))
    content = read_model_content(path)
    del content["familiarity"]  # as earlier releases wrote it
    write_tensors(path, content)
    result = TwinInferenceEngine(path, "cpu", align="never").verify_pair(picture(0), picture(1))
    assert result.familiarity == (None, None)
    assert not any(UNLIKE in text or "drawn faces" in text for text in result.warnings)


def test_the_statement_survives_the_file(told, statement):
    stored = load_model(told).familiarity
    assert stored.to_dict() == statement.to_dict()
    assert read_familiarity(json.loads(json.dumps(statement.to_dict()))).to_dict() == statement.to_dict()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mean", [0.0]), ("deviation", [0.0] * NUM_LOOKS), ("whitening", [[1.0] * NUM_LOOKS]),
        ("mean", [float("nan")] * NUM_LOOKS), ("distances", "far"), ("levels", [0.5]), ("num_train", -1), ("data", 7),
    ],
)  # fmt: skip
def test_damaged_statements_are_refused_in_one_line(told, tmp_path, name, value):
    content = read_model_content(told)
    path = tmp_path / "damaged.pth"
    write_tensors(path, content | {"familiarity": {**content["familiarity"], name: value}})
    with pytest.raises(ModelError, match=r"familiarity") as refused:
        load_model(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("reverse", ["distances", "levels"])
def test_distances_that_fall_are_refused(statement, reverse):
    values = statement.to_dict()
    with pytest.raises(ValueError, match="do not rise"):
        read_familiarity({**values, reverse: values[reverse][::-1]})


def test_training_stores_what_its_pictures_look_like(tiny_config, tmp_path):
    result = train(tiny_config.override({"training.num_epochs": 1}))
    stored = load_model(result.best_model)
    assert (stored.familiarity.num_train, stored.familiarity.num_validation) == (48, 24)
    assert stored.familiarity.data == "validation: 4 people, 24 images"
    assert "faces" not in stored.training


def test_drawn_training_data_are_told(tiny_faces, tiny_config, tmp_path):
    drawn = tmp_path / "drawn"
    shutil.copytree(tiny_faces, drawn)
    images = sorted(drawn.glob("train/*/*.png"))
    assert not are_drawn(images)
    (drawn / "synth.json").write_text(json.dumps({"families": 8, "difficulty": "easy"}))
    assert are_drawn(images)
    assert not are_drawn([*images, *sorted(tiny_faces.glob("train/*/*.png"))])  # photographs among them
    result = train(tiny_config.override({"training.num_epochs": 1, "data.data_dir": str(drawn)}))
    (told,) = training_warnings(load_model(result.best_model).training)
    assert "knows no real face" in told


def test_a_network_that_knew_faces_before_is_not_said_to_know_none():
    for start in ("face network", "other model"):
        (told,) = training_warnings({"faces": "drawn", "start": start})
        assert "not for real ones" in told
        assert "knows no real face" not in told
    assert training_warnings({"start": "face network"}) == ()


def test_every_result_of_a_model_of_drawn_faces_says_so(told):
    engine = TwinInferenceEngine(told, "cpu", align="never")
    result = engine.verify_pair(picture(0), picture(1))
    assert "knows no real face" in result.warnings[0]
    (entry,) = engine.batch_verify([(picture(0), picture(1))])
    assert "knows no real face" in entry["warnings"][0]


def test_attention_of_a_face_network_as_it_was_is_called_untrained():
    (told,) = attention_warnings({"start": "face network", "step": 0})
    assert "never trained" in told
    assert attention_warnings({"start": "face network", "step": 5}) == ()
    assert attention_warnings({"step": 0}) == ()
