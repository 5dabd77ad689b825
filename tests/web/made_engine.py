"""An engine around a tiny untrained model, photos to send it, and maps that stand in for explanations."""

import io

import numpy as np
from PIL import Image
from tiny import tiny_model

from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.metrics.calibration import Platt
from twin_dcal.metrics.error_curve import ErrorCurve, Threshold

CURVE = {
    "thresholds": [-0.2, 0.1, 0.4, 0.7, 0.95], "fnmr": [0.0, 0.01, 0.05, 0.2, 0.6],
    "fmr": {"twin": [1.0, 0.8, 0.3, 0.05, 0.01], "unrelated": [0.5, 0.2, 0.01, 0.0, 0.0],
            "all": [0.6, 0.3, 0.05, 0.01, 0.0]},
    "num_genuine": 400, "num_impostors": {"twin": 200, "unrelated": 1000, "all": 1200}, "data": "made-up pairs",
}  # fmt: skip
THRESHOLD = 0.7


def model_file(folder, *, curve=True, threshold=True):
    return tiny_model(
        folder,
        threshold=Threshold(THRESHOLD, {"data": "made-up pairs", "criterion": "eer"}) if threshold else None,
        calibration=Platt(10.0, -7.0, 0.5, 400, 200, "made-up pairs"),
        error_curve=ErrorCurve.from_dict(CURVE) if curve else None,
    )


def engine(folder, **kinds):
    return TwinInferenceEngine(
        model_file(folder, **kinds), device="cpu", align="never"
    )  # squares are no faces


def photo(seed, size=64, kind="PNG", **saving):
    """Bytes of a picture of coloured squares."""
    rng = np.random.default_rng(seed)
    pixels = np.kron(rng.integers(40, 216, (4, 4, 3)), np.ones((size // 4, size // 4, 1))).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **saving)
    return file.getvalue()


def attention(one, two):
    """The quick part of `explain`."""
    return {name: maps for name, maps in explain(one, two).items() if name in ("rollout", "glca_regions")}


def explain(one, two):
    """Maps that depend on the pixels, of 8 by 8 patches."""
    grids = [square.reshape(8, square.shape[0] // 8, 8, -1).mean((1, 3)) for square in (one, two)]
    shares = [(grid + 1) / (grid + 1).sum() for grid in grids]
    signed = [(grid - grid.mean()) / 255 for grid in grids]
    chosen = [(share > np.quantile(share, 0.8)).astype(float) for share in shares]
    return {
        "rollout": tuple(share.tolist() for share in shares), "pair": tuple(grid.tolist() for grid in signed),
        "glca_regions": tuple(grid.tolist() for grid in chosen), "method": "brightness",
        "matches": [{"row1": 2, "col1": 3, "row2": 2, "col2": 4, "weight": 0.2},
                    {"row1": 6, "col1": 1, "row2": 5, "col2": 1, "weight": -0.1}],
    }  # fmt: skip


def explains(engine, **functions):
    """What the page is given: functions of two squares, each with the engine's decision before its maps."""

    def with_decision(function):
        return lambda one, two: (engine.decide(one, two), function(one.pixels, two.pixels))

    functions = functions or {"attention": attention, "pair": explain}
    return {name: with_decision(function) for name, function in functions.items()}
