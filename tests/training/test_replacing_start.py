"""A face network gives way only to what is better beyond chance."""

import logging

import numpy as np
import pytest
from tiny import tiny_values
from tiny_face import tiny_face_onnx

from twin_dcal.checkpoint import load_model
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.metrics.pair_stream import AllPairs
from twin_dcal.training import loop, validation
from twin_dcal.training.run import train
from twin_dcal.training.start import Standing
from twin_dcal.training.state import Progress


def pairs(num_families=12, noise=0.5, seed=0):
    """Two people a family, four images each; noise of another seed or size on the same people."""
    rng = np.random.default_rng(99)
    family = np.repeat(np.arange(num_families), 8)
    person = np.repeat(np.arange(num_families * 2), 4)
    own = rng.normal(size=(num_families, 16))[family] + 0.7 * rng.normal(size=(num_families * 2, 16))[person]
    drawn = np.random.default_rng(seed).normal(size=own.shape)
    return AllPairs(own + noise * drawn, person, family)


def test_a_clear_gain_is_told_from_chance():
    start = Standing.of(pairs(noise=0.9), ("twin", "unrelated"))
    assert start.num_families == 12
    clear = Standing.of(pairs(noise=0.3), ("twin", "unrelated")).gain_over(start)
    assert clear.estimate == pytest.approx(
        start.figure - Standing.of(pairs(noise=0.3), ("twin", "unrelated")).figure
    )
    assert 0 < clear.low < clear.estimate < clear.high
    chance = Standing.of(pairs(noise=0.89, seed=1), ("twin", "unrelated")).gain_over(start)
    assert chance.low < 0 < chance.high
    same = start.gain_over(start)
    assert same.low == same.estimate == same.high == 0


def test_too_few_families_say_nothing():
    start = Standing.of(pairs(4, noise=0.9), ("twin",))
    assert start.gain_over(start) is None
    assert Standing.of(pairs(4, noise=0.3), ("twin",)).gain_over(start) is None


def test_it_survives_a_training_state():
    start = Standing.of(pairs(), ("all",))
    assert Progress.from_dict(Progress(start=start).to_dict()).start == start
    assert Progress.from_dict(Progress().to_dict()).start is None
    before = {name: value for name, value in Progress().to_dict().items() if name != "start"}
    assert Progress.from_dict(before).start is None


def scripted(monkeypatch, gains):
    """The start at .40, then epochs with these gains, which differ by 0.07 between family draws."""
    wave = 0.1 * np.cos(np.arange(20)) / 3
    figures = [0.4, *(0.4 - gain for gain in gains)]
    found = iter(
        Standing(figure, tuple((figure + (wave if epoch else 0 * wave)).tolist()), 20)
        for epoch, figure in enumerate(figures)
    )
    keys = iter([(figure, 0.0) for figure in figures])
    monkeypatch.setattr(loop.Standing, "of", lambda *_: next(found))
    monkeypatch.setattr(validation.Validation, "key", lambda *_: next(keys))


@pytest.mark.parametrize(
    ("asked", "gains", "best", "doubted"),
    [
        ("clearly_better", (0.05, -0.1), 0, ["epoch 1"]),
        ("better", (0.05, -0.1), 1, []),
        ("clearly_better", (0.05, 0.3), 2, ["epoch 1"]),
    ],
)
def test_best_model_stays_the_start_until_one_is_clearly_better(
    tiny_faces, tmp_path, monkeypatch, caplog, asked, gains, best, doubted
):
    caplog.set_level(logging.INFO)
    tiny_face_onnx(tmp_path / "net.onnx")
    values = tiny_values(tiny_faces, tmp_path / "run")
    values["model"] = {
        "backbone": "onnx", "pretrained": str(tmp_path / "net.onnx"), "num_heads": 2, "num_blocks": 1,
        "face_pixels": "rgb/127.5",
    }  # fmt: skip
    values["data"]["crop_template"] = "none"  # looking for faces in the crops took most of the time
    values["training"]["replace_start"] = asked
    if asked == "clearly_better":
        scripted(monkeypatch, gains)
    else:
        keys = iter([(0.4 - gain, 0.0) for gain in (0, *gains)])
        monkeypatch.setattr(validation.Validation, "key", lambda *_: next(keys))
    result = train(TwinVerificationConfig.from_dict(values))
    assert load_model(result.best_model).training["epoch"] == best
    told = [record.getMessage() for record in caplog.records if "may be chance" in record.getMessage()]
    assert [message.split(" is ")[0] for message in told] == doubted
