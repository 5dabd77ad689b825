"""What a model scores: its features, each image embedded no more often than needed."""

import numpy as np
import pytest

from twin_dcal.checkpoint import load_model, save_model
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.verification import embeddings
from twin_dcal.verification.reading import DataFiles
from twin_dcal.verification.systems import ModelSystem, Sampling


@pytest.fixture
def passes(monkeypatch):
    """Features that images were embedded for, in order."""
    made, embed = [], embeddings.embed_images

    def counted(*arguments, **options):
        made.append(options["feature_type"])
        return embed(*arguments, **options)

    monkeypatch.setattr(embeddings, "embed_images", counted)
    return made


def system(config, folder, feature_type, branches):
    config = config.override({"model.branches": branches})
    save_model(folder / "model.pth", DCALVerificationModel.from_config(config), config)
    return ModelSystem(
        str(folder / "model.pth"), load_model(folder / "model.pth"), DataFiles(), Sampling(), feature_type,
        batch_size=8, num_workers=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("feature", "branches", "apart", "expected_passes"),
    [
        ("combined", ["sa", "pwca"], ["sa"], ["combined"]),
        ("sa", ["sa", "pwca"], ["sa"], ["sa"]),
        ("combined", ["sa", "glca"], ["sa", "glca", "combined"], ["combined"]),
        ("sa", ["sa", "glca"], ["sa", "glca", "combined"], ["sa", "combined"]),
        ("glca", ["sa", "glca"], ["sa", "glca", "combined"], ["glca", "combined"]),
    ],
)
def test_no_image_is_embedded_more_often_than_needed(
    feature, branches, apart, expected_passes, tiny_config, tiny_faces, tmp_path, passes
):
    one = system(tiny_config, tmp_path, feature, branches)
    scored = one.scored(str(tiny_faces), "test")
    features = one.scored_apart(scored)
    assert list(features) == apart
    assert passes == expected_passes
    for name, other in features.items():
        wanted = one.scored_with(scored.what, name).vectors
        np.testing.assert_allclose(other.vectors, wanted, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(other.vectors, axis=1), 1, atol=1e-6)
    assert features.get(feature, features["sa"]) is scored
