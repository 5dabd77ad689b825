"""Several photographs of each: the score, the threshold for so many, what each photograph does, and who is unlike."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from templates_oracle import dot, template_score
from tiny import tiny_model

from twin_dcal import TwinInferenceEngine
from twin_dcal.checkpoint import load_model
from twin_dcal.errors import ConfigError, ImageError, ModelError
from twin_dcal.inference.aligning import FaceInfo
from twin_dcal.inference.templates import Side, outliers
from twin_dcal.metrics.calibration import Platt
from twin_dcal.metrics.error_curve import ErrorCurve, Threshold
from twin_dcal.metrics.fusion import Fusion
from twin_dcal.metrics.pairs import PairScores
from twin_dcal.metrics.templates import TemplateDecision
from twin_dcal.metrics.thresholds import counted

ORIGIN = {"data": "validation", "criterion": "eer", "impostors": "twin", "fmr": 0.25, "fnmr": 0.25}


def curve(lowest):
    """Genuine scores from `lowest` to 1, twins from 0 to 0.9."""
    ends = ((lowest, 1), (0, 0.9), (-0.5, 0.6), (0, 0.1))
    return ErrorCurve.of(
        counted(PairScores(*(np.linspace(*e, 200, dtype=np.float32) for e in ends))), "drawn"
    )


def decision(rule, sizes, threshold, lowest=0.5):
    origin = {**ORIGIN, "data": f"{sizes[0]} and {sizes[1]}"}
    return TemplateDecision(
        rule, sizes, Threshold(threshold, origin), Platt(9.0, -6.0, 0.5, 10, 10, "x"), curve(lowest)
    )


TEMPLATES = (
    decision("mean", (1, 2), 0.71),
    decision("mean", (2, 3), 0.72, 0.6),
    decision("max", (2, 3), 0.9),
)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    torch.manual_seed(0)
    return tiny_model(
        tmp_path_factory.mktemp("verify"), threshold=Threshold(0.75, ORIGIN),
        calibration=Platt(8.0, -6.0, 0.5, 10, 10, "drawn"), error_curve=curve(0.5), templates=TEMPLATES,
    )  # fmt: skip


@pytest.fixture
def engine(model_path):
    return TwinInferenceEngine(model_path, "cpu", align="never")


@pytest.fixture(scope="module")
def photos(tiny_faces):
    return sorted(tiny_faces.glob("test/*/*.png"))


FUSION = Fusion(64, 0.5, (-2.0, 9.0, -4.0), (20.0, 3.0, -9.0), "made up")


@pytest.mark.parametrize("fusion", [None, FUSION])
@pytest.mark.parametrize("fuse", ["quality", "mean", "max", "scores"])
def test_one_photograph_each_is_a_pair_to_the_last_digit(engine, photos, fusion, fuse):
    engine.backend.source = replace(engine.source, fusion=fusion)
    pair = engine.verify_pair(photos[0], photos[7]).to_dict()
    for given in ((photos[0], photos[7]), ([photos[0]], [photos[7]])):
        result = engine.verify(*given, fuse=fuse)
        told = result.to_dict()
        assert {key: told[key] for key in pair if key != "elapsed_ms"} == {
            key: value for key, value in pair.items() if key != "elapsed_ms"
        }
        assert (result.sizes, [len(side) for side in result.photographs]) == ((1, 1), [1, 1])
        [only] = result.photographs[0]
        assert (only["weight"], only["contribution"], only["likeness"], only["outlier"]) == (
            1,
            None,
            None,
            False,
        )


@pytest.mark.parametrize("fusion", [None, FUSION])
@pytest.mark.parametrize("fuse", ["quality", "mean", "max", "scores"])
def test_scores_and_contributions_are_those_of_loops(engine, photos, fusion, fuse):
    engine.backend.source = replace(engine.source, fusion=fusion)
    sides = photos[:3], photos[6:8]
    one, two = (engine.extract_features(side).tolist() for side in sides)
    parts = [(0, 128, 1)] if fusion is None else [(0, 64, 0.5), (64, 128, 0.5)]

    def pair(a, b):
        if fusion is None:
            return dot(a, b)
        return float(fusion.score(2 * dot(a[:64], b[:64]), 2 * dot(a[64:], b[64:])))

    def score(one, two):
        rule = "mean" if fuse == "quality" else fuse
        return template_score(one, two, rule, ([1] * len(one), [1] * len(two)), parts, pair)

    result = engine.verify(*sides, fuse=fuse)
    assert result.similarity == pytest.approx(score(one, two), abs=1e-5)
    for at, told in enumerate(result.photographs[0]):
        without = [row for number, row in enumerate(one) if number != at]
        assert told["contribution"] == pytest.approx(score(one, two) - score(without, two), abs=1e-5)
        alone = template_score([one[at]], without, "mean", ([1], [1, 1]), parts, pair)
        assert told["likeness"] == pytest.approx(alone, abs=1e-5)
        assert (told["path"], told["weight"]) == (str(sides[0][at]), pytest.approx(1 / 3))
    assert json.loads(json.dumps(result.to_dict()))["sizes"] == [3, 2]
    assert (result["fuse"], len(result), result.faces) == (fuse, len(list(result)), (None, None))


def test_the_threshold_is_the_one_for_so_many_photographs(engine, photos):
    result = engine.verify(photos[:3], photos[6:8])
    assert (result.threshold, result.threshold_source["photographs"]) == (0.72, [2, 3])
    assert result.threshold_source["data"] == "2 and 3"
    rates = TEMPLATES[1].error_curve.at(result.similarity)
    assert (result.estimated_fmr, result.estimated_fnmr) == (rates.fmr, rates.fnmr)
    assert result.verification_score == pytest.approx(float(TEMPLATES[1].calibration(result.similarity)))
    assert not [text for text in result.warnings if "photographs" in text]
    assert engine.verify(photos[:3], photos[6:8], fuse="max").threshold == 0.9
    assert engine.verify_pair(photos[0], photos[1]).threshold == 0.75
    # Of other numbers the nearest smaller ones, or those of single photographs; either says so.
    more = engine.verify(photos[:5], photos[6:11])
    assert more.threshold == 0.72
    assert (
        "threshold: that of 2 and 3 photographs, the nearest to 5 and 5 photographs that is known"
        in more.warnings
    )
    none = engine.verify(photos[:3], photos[6:8], fuse="scores")
    assert (none.threshold, none.verification_score is None) == (0.75, False)
    [told] = [text for text in none.warnings if "photographs" in text]
    assert told.startswith("threshold: that of single photographs")


def test_a_threshold_set_by_hand_stays_with_the_rates_for_so_many(engine, photos, model_path):
    engine.set_threshold(0.65)
    result = engine.verify(photos[:3], photos[6:8])
    rates = TEMPLATES[1].error_curve.at(0.65)
    source = result.threshold_source
    assert (result.threshold, source["set_by"], source["fmr"], source["fnmr"]) == (
        0.65,
        "user",
        rates.fmr,
        rates.fnmr,
    )
    engine.set_threshold_probability(0.5)
    result = engine.verify(photos[:3], photos[6:8])
    assert result.threshold == pytest.approx(6 / 9)
    assert result.threshold_source["probability"] == 0.5
    assert engine.threshold == pytest.approx(6 / 8)
    again = pickle.loads(pickle.dumps(engine))
    assert again.verify(photos[:3], photos[6:8]).threshold == pytest.approx(6 / 9)
    engine.optimize_threshold([(photos[0], photos[1]), (photos[0], photos[7])], [1, 0])
    told = engine.verify(photos[:3], photos[6:8]).warnings
    assert [text for text in told if "of single photographs" in text], "those of the model are of other pairs"


def test_weights_by_quality_and_equal_ones_where_one_is_unknown():
    quality = {"score": 0.95, "turn": 0.0, "sharpness": 0.9}
    faces = [FaceInfo({"quality": quality | more}) for more in ({}, {"turn": -0.4}, {"sharpness": 0.1})]
    side = Side("img1", [None] * 3, np.eye(3, dtype=np.float32), faces)
    weights = side.weights("quality")
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > weights[1] > weights[2] > 0
    assert weights[1] / weights[0] == pytest.approx(0.6)
    assert side.weights("mean") is None
    assert replace(side, seen=[*faces[:2], FaceInfo()]).weights("quality") is None


def vectors(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("degrees", "found", "told"),
    [
        ((0, 5, 80, -5), [2], ["img1: photo 3 does not look like the others (similarity +0.174)"]),
        ((0, 5, 10, -5), [], []),
        ((0, 90), [], ["img1: photo 1 and photo 2 do not look like one person (similarity +0.000)"]),
        ((0, 5, 100, 3, -100), [2, 4], ["img1: photo 3 does", "img1: photo 5 does"]),
        ((0,), [], []),
    ],
)  # fmt: skip
def test_a_photograph_of_somebody_else_is_told_of(engine, degrees, found, told):
    side = Side("img1", [None] * len(degrees), vectors(*degrees), [FaceInfo()] * len(degrees))
    unlike, warnings = outliers(side, engine.deciding, None)
    assert sorted(unlike) == found
    assert len(warnings) == len(told)
    assert all(text in " ".join(warnings) for text in told)


def test_a_rare_but_genuine_likeness_is_no_outlier(engine):
    """Below the threshold, but 5 % of genuine comparisons are as unlike."""
    side = Side("img1", [None] * 3, vectors(0, 0, 57), [FaceInfo()] * 3)
    assert outliers(side, engine.deciding, None) == ([], ())
    assert outliers(side, replace(engine.deciding, templates=(), error_curve=None), None)[0] == [2]


def test_what_cannot_be_used_is_named(engine, photos, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"bad\.png"):
        engine.verify([photos[0], bad], photos[1])
    with pytest.raises(ImageError, match="img2 photo 2"):
        engine.verify(photos[0], [photos[1], b"nothing"])
    with pytest.raises(ConfigError, match="without a photograph"):
        engine.verify([], photos[1])
    with pytest.raises(ConfigError, match="fuse 'best': give one of quality, mean, max, scores"):
        engine.verify(photos[0], photos[1], fuse="best")


def test_warnings_of_photographs_name_them(model_path, photos, monkeypatch):
    engine = TwinInferenceEngine(model_path, "cpu")
    monkeypatch.setattr("twin_dcal.inference.aligning.is_available", lambda: False)
    told = engine.verify(photos[:2], photos[7]).warnings
    assert [text.partition(":")[0] for text in told if "looked at" in text] == [
        "img1 photo 1",
        "img1 photo 2",
        "img2",
    ]


def test_a_file_keeps_what_decides_on_templates(model_path, tmp_path):
    stored = load_model(model_path).templates
    assert [each.to_dict() for each in stored] == [each.to_dict() for each in TEMPLATES]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sizes": [2, 1]}, "templates.0: .*the smaller first"), ({"sizes": [1, 1]}, "the smaller first"),
        ({"sizes": [1, 2000]}, "templates.0.sizes.1"), ({"rule": "best"}, "templates.0.rule"),
        ({"threshold": {"value": 2.0, "origin": {}}}, "templates.0.threshold.value"),
        ({"threshold": {"value": 0.5, "origin": {"a": {1: 2}}}}, "templates.0.threshold"),
        ({"error_curve": TEMPLATES[0].error_curve.to_dict() | {"fnmr": [0.5]}}, "error curve"),
        ({"calibration": {"slope": 1.0}}, "templates.0.calibration"),
    ],
)  # fmt: skip
def test_a_file_that_says_what_cannot_be_is_refused(tmp_path, change, told):
    values = TEMPLATES[0].to_dict() | change

    class Said:
        def to_dict(self):
            return values

    with pytest.raises(ModelError, match=told):
        load_model(tiny_model(tmp_path, threshold=Threshold(0.5, {}), templates=[Said()]))
