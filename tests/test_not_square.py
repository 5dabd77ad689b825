"""A network whose input is not square: trained, saved, evaluated, exported, explained and shown as such."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_scenes import detector, drawn_face  # noqa: F401
from PIL import Image
from tiny import tiny_model
from tiny_face import tiny_face_onnx

from twin_dcal.checkpoint import load_model
from twin_dcal.cli import evaluate, export
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.fit import fit
from twin_dcal.data.samplers import SampleKey
from twin_dcal.data.templates import ARCFACE112
from twin_dcal.data.transforms import eval_transform, train_transform
from twin_dcal.errors import ConfigError, ImageError, ModelError
from twin_dcal.explain import overlays
from twin_dcal.explain.attribution import cell_sums, windows
from twin_dcal.explain.pair import explain_pair
from twin_dcal.inference import aligning
from twin_dcal.inference.aligning import Aligner
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.models.face.onnx_network import _token_grid
from twin_dcal.prepare.align import warp
from twin_dcal.prepare.geometry import fit_similarity
from twin_dcal.training.framing import crop_landmarks
from twin_dcal.training.loop import Trainer
from twin_dcal.training.trackers.mlflow_model import CropsToEmbeddings
from twin_dcal.web.decision import model_answer

SIZE = (112, 96)

# name: what it is built from; rows and columns of its patches
NETWORKS = {
    "face network": ({"model.backbone": "onnx", "model.frozen_stride": 2}, (14, 12)),
    "ViT": ({"model.backbone": "test_vit", "model.pretrained": False, "model.glca_pool": "local"}, (7, 6)),
    "CNN": ({"model.backbone": "test_resnet", "model.pretrained": False}, (4, 3)),
}  # fmt: skip


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """4 twin families of 2 people with 4 pictures, some of them 112 x 96 already, some square, some wide."""
    root = tmp_path_factory.mktemp("faces")
    info, pairs = {}, []
    for number, split in enumerate(("train", "train", "val", "test")):
        pairs.append([f"{number}a", f"{number}b"])
        for twin, person in enumerate(pairs[-1]):
            rng = np.random.default_rng((number, twin))
            info[person] = []
            for photo, (height, width) in enumerate((SIZE, SIZE, (112, 112), (120, 160))):
                coarse = Image.fromarray(rng.integers(0, 256, (7, 6, 3), np.uint8))
                name = f"{split}/{person}/{photo}.png"
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                coarse.resize((width, height)).save(root / name)
                info[person].append(name)
    (root / "dataset_infor.json").write_text(json.dumps(info))
    (root / "twin_pairs_infor.json").write_text(json.dumps(pairs))
    return root


def configuration(kind, faces, folder, **changes):
    values = {
        "model.attention_dim": None if kind == "face network" else 16, "model.num_heads": 2, "model.num_blocks": 1,
        "data.data_dir": str(faces), "data.image_size": list(SIZE), "data.crop_template": "none",
        "training.batch_size": 4, "training.images_per_person": 2, "training.num_epochs": 1,
        "training.warmup_epochs": 0, "training.lr_reference_batch": None, "runtime.output_dir": str(folder),
        "runtime.device": "cpu", "runtime.num_workers": 0, "runtime.num_threads": 1,
    }  # fmt: skip
    if kind == "face network":
        tiny_face_onnx(folder / "tiny.onnx", size=SIZE)
        values["model.pretrained"] = str(folder / "tiny.onnx")
    return TwinVerificationConfig().override(values | NETWORKS[kind][0] | changes)


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request, faces, tmp_path_factory):
    """Kind, configuration and best_model.pth of a run of two steps."""
    folder = tmp_path_factory.mktemp("run")
    config = configuration(request.param, faces, folder)
    data = TwinDataModule(config)
    data.setup()
    trainer = Trainer(config, data, folder)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    result = trainer.fit()
    assert trainer.progress.step >= 2
    after = trainer.model.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    return request.param, config, result.best_model


def pictures(num=2, size=SIZE):
    return np.random.default_rng(0).integers(0, 256, (num, *size, 3), np.uint8)


def test_patches_cover_rows_and_columns_and_the_size_is_stored(trained):
    kind, config, path = trained
    loaded = load_model(path)
    assert loaded.model.backbone.grid == NETWORKS[kind][1]
    assert loaded.preprocessing.image_size == loaded.model.image_size == SIZE
    assert loaded.config.data.image_size == config.data.image_size == SIZE


def test_it_is_used_on_the_central_part_of_its_shape(trained):
    _, _, path = trained
    engine = TwinInferenceEngine(path, align="never")
    wide = pictures(1, (224, 448))[0]
    assert engine.prepare(wide).shape == (*SIZE, 3)
    np.testing.assert_array_equal(engine.prepare(wide), fit(wide[:, 128:320], SIZE))
    both = engine.extract_features([wide, wide[:, 128:320]])
    np.testing.assert_allclose(both[0], both[1], atol=1e-6)


@pytest.mark.slow
def test_it_is_evaluated_and_explained(trained, faces, tmp_path, capsys):
    _, _, path = trained
    code = evaluate.main(
        ["--model", str(path), "--data_dir", str(faces), "--output_dir", str(tmp_path), "--explain", "--visualize",
         "--explain_pairs", "2", "--num_replicates", "0"]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    told = json.loads((tmp_path / "explanations.json").read_text())
    assert set(told["maps"]) >= {"combined", "rollout", "centre"}
    assert list((tmp_path / "visualizations").glob("explained_*.png"))


def test_maps_lie_where_the_picture_was_changed(trained):
    """The second picture is the first with one place hidden: the strongest "different" is there, not at its mirror."""
    _, _, path = trained
    engine = TwinInferenceEngine(path, align="never")
    one, other = pictures(1)[0], pictures(2)[1]
    two = one.copy()
    two[84:112, 12:36] = other[84:112, 12:36]  # rows 6 and 7 of 8, columns 1 and 2
    told = explain_pair(engine.backend, one, two, method="gradients")
    assert told.attribution1.shape == (8, 8)
    changed = np.zeros((8, 8), bool)
    changed[6:8, 1:3] = True
    np.testing.assert_array_equal(np.abs(told.attribution1) > 1e-9, changed & (told.attribution1 != 0))
    assert np.abs(told.attribution1[changed]).sum() > 0
    assert told.rollout1.shape == engine.backend.model.backbone.grid


@pytest.mark.slow
def test_the_exported_model_gives_the_same_and_refuses_other_sizes(trained, tmp_path, capsys):
    pytest.importorskip("onnxscript", reason="needs the extra 'onnx'")
    _, _, path = trained
    code = export.main(["--model", str(path), "--output", str(tmp_path / "m.onnx")])
    assert code == 0, capsys.readouterr().err
    ours, exported = (TwinInferenceEngine(each, align="never") for each in (path, tmp_path / "m.onnx"))
    assert exported.source.image_size == SIZE
    given = [*pictures(), *pictures(1, (150, 150))]
    np.testing.assert_allclose(exported.extract_features(given), ours.extract_features(given), atol=1e-4)
    with pytest.raises(ModelError, match="its graph cannot be run"):
        exported.backend.embed(pictures(1, (96, 112)))


def test_rows_and_columns_in_another_order_are_another_network(trained, tmp_path):
    _, _, path = trained
    content = torch.load(path, weights_only=True)
    content["preprocessing"]["image_size"] = (96, 112)
    torch.save(content, tmp_path / "turned.pth")
    with pytest.raises(ModelError, match="pictures of 96 x 112 pixels for a network of 112 x 96 pixels"):
        load_model(tmp_path / "turned.pth")


def test_a_square_written_as_two_sides_is_that_square(tmp_path):
    path = tiny_model(tmp_path)
    content = torch.load(path, weights_only=True)
    side = content["preprocessing"]["image_size"]
    content["preprocessing"]["image_size"] = [side, side]
    content["config"]["data"]["image_size"] = [side, side]
    torch.save(content, path)
    loaded = load_model(path)
    assert loaded.preprocessing.image_size == loaded.config.data.image_size == loaded.model.image_size == side


def test_frozen_stages_are_kept_for_such_pictures_too(faces, tmp_path):
    config = configuration(
        "face network",
        faces,
        tmp_path,
        **{"training.cached_views": 1, "loss.head": "pairs", "model.frozen_stride": 4},
    )
    data = TwinDataModule(config)
    data.setup()
    trainer = Trainer(config, data, tmp_path / "run")
    assert trainer.loader.dataset[SampleKey(0, 0, 0, 0)]["frozen_0"].shape[1:] == (28, 24)
    trainer.fit()
    assert trainer.progress.step >= 2


# What the network sees


def unchanged(config):
    """The training transform without anything random."""
    return train_transform(
        config.data.image_size, False, min_crop_area=1.0, color_jitter=0.0, erase_probability=0.0
    )


@pytest.mark.parametrize("shape", [(112, 96), (224, 192), (112, 112), (90, 200), (200, 90)], ids=str)
def test_training_and_use_see_the_same_part_unstretched(shape):
    config = TwinVerificationConfig().override({"data.image_size": [112, 96]})
    coarse = np.random.default_rng(1).integers(0, 256, (5, 5, 3), np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC))
    image = torch.tensor(picture).permute(2, 0, 1)
    seen = eval_transform(config.data.image_size)(image)
    assert seen.shape == (3, *SIZE)
    assert (unchanged(config)(image).int() - seen.int()).abs().max() <= 2
    scale = min(shape[0] / 112, shape[1] / 96)
    height, width = (round(scale * side) for side in SIZE)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    part = Image.fromarray(picture[top : top + height, left : left + width])
    wanted = np.asarray(part.resize((96, 112), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(seen.permute(1, 2, 0).numpy(), wanted)


def test_augmentation_stays_within_that_part():
    config = TwinVerificationConfig().override({"data.image_size": [112, 96]})
    image = torch.zeros(3, 112, 300, dtype=torch.uint8)
    image[:, :, 102:198] = 255
    shrunk = train_transform(
        config.data.image_size, True, min_crop_area=0.5, color_jitter=0.0, erase_probability=0.0
    )
    assert all(int(shrunk(image).min()) == 255 for _ in range(20))


def backbone_of(tmp_path, image_size, network_size, crops=ARCFACE112):
    tiny_face_onnx(tmp_path / "tiny.onnx", size=network_size)
    model = DCALVerificationModel(
        "onnx",
        pretrained=str(tmp_path / "tiny.onnx"),
        image_size=image_size,
        attention_dim=16,
        num_heads=2,
        num_blocks=1,
    )
    model.backbone.frame(crops)
    return model.backbone


@pytest.mark.parametrize("crops", [ARCFACE112, None], ids=["on its template", "whole"])
def test_a_face_network_is_given_the_central_part_of_square_crops(tmp_path, crops):
    backbone = backbone_of(tmp_path, 112, SIZE, crops)
    images = torch.rand(1, 3, 112, 112)
    torch.testing.assert_close(backbone.frozen(images)[0], images[..., 8:104], atol=1e-5, rtol=0)


@pytest.mark.parametrize("crops", [ARCFACE112, None], ids=["on its template", "whole"])
def test_a_square_face_network_gets_narrow_crops_with_their_edges_continued(tmp_path, crops):
    backbone = backbone_of(tmp_path, SIZE, (112, 112), crops)
    images = torch.rand(1, 3, *SIZE)
    (given,) = backbone.frozen(images)
    torch.testing.assert_close(given[..., 8:104], images, atol=1e-5, rtol=0)
    torch.testing.assert_close(given[..., :8], images[..., :1].expand(-1, -1, -1, 8), atol=1e-5, rtol=0)


def test_narrow_crops_fit_a_narrow_face_network_as_they_are(tmp_path):
    backbone = backbone_of(tmp_path, SIZE, SIZE)
    images = torch.rand(1, 3, *SIZE)
    torch.testing.assert_close(backbone.frozen(images)[0], images, atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def photos(detector):  # noqa: F811
    """Drawn faces, each with the similarity that aligns it to ArcFace's template."""
    found = []
    for family in range(8):
        face, points = drawn_face(family, 0)
        wide = np.pad(face, ((60, 60), (60, 60), (0, 0)), mode="edge")
        found.append((wide, fit_similarity(np.asarray(points) + 0.5 + 60, ARCFACE112)))
    return found


def test_landmarks_of_narrow_crops_are_those_of_the_square_around_them(photos, tmp_path, caplog):
    paths = []
    for number, (photo, matrix) in enumerate(photos):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(warp(photo, matrix * 224, 224)[:, 16:208]).save(paths[-1])
    config = TwinVerificationConfig().override({"data.image_size": [112, 96]})
    with caplog.at_level(logging.INFO):
        np.testing.assert_array_equal(crop_landmarks(config, paths), ARCFACE112)
    assert "template 'arcface112'" in caplog.text


def test_a_photo_is_aligned_to_the_central_part_of_the_square_crop(photos):
    aligner = Aligner("always", ARCFACE112)
    photo, _ = photos[0]
    square, narrow = (aligner(photo, size, "photo") for size in (112, SIZE))
    np.testing.assert_array_equal(narrow.pixels, square.pixels[:, 8:104])
    assert narrow.seen == square.seen
    shown = narrow.shown(224)
    assert 112 < shown.shape[0] < 224, "in the photo's own resolution"
    assert shown.shape[1] == round(shown.shape[0] * 96 / 112)


@pytest.mark.parametrize("columns", [slice(16, 208), slice(0, 224)], ids=["narrow", "square"])
def test_crops_of_either_shape_are_left_alone(photos, columns):
    photo, matrix = photos[0]
    crop = np.ascontiguousarray(warp(photo, matrix * 224, 224)[:, columns])
    prepared = Aligner("auto", ARCFACE112)(crop, SIZE, "crop")
    assert prepared.seen.face["aligned"] is False
    np.testing.assert_array_equal(prepared.pixels, fit(crop, SIZE))
    assert prepared.shown().shape == (224, 192, 3)


def test_what_nobody_looked_at_is_told_by_its_shape(monkeypatch):
    monkeypatch.setattr(aligning, "is_available", lambda: False)
    tall = (300, 100)
    for shape, is_photo in (((300, 100), False), ((200, 200), False), ((200, 300), True)):
        (warning,) = Aligner("auto")(np.zeros((*shape, 3), np.uint8), tall, "picture").seen.warnings
        assert ("whole photograph" in warning) is is_photo, shape


@pytest.mark.parametrize("rows", [112, 224])
def test_overlays_keep_the_shape_and_true_differences_are_cut_alike(rows):
    whole = np.zeros((rows, rows))
    whole[:, : rows // 14] = 1  # beyond the part that is seen
    whole[rows // 2 :, rows // 2 :] = 2
    part = overlays.seen(whole, SIZE)
    assert part.shape == (rows, rows * 96 // 112)
    assert set(np.unique(part)) == {0, 2}
    face = pictures(1)[0]
    shown = overlays.enlarged(face, 224)
    assert shown.shape == (224, 192, 3)
    over = overlays.overlay(shown, part, signed=False)
    assert over.shape == shown.shape
    changed = np.abs(over.astype(float) - overlays.grey(shown)).sum(-1) > 200
    assert changed[120:, 100:].mean() > 0.5 > changed[:104].mean()
    assert overlays.chosen_overlay(shown, np.eye(7, 6, dtype=bool)).shape == shown.shape


def test_cells_of_an_explanation_cover_rows_and_columns():
    cells = windows(4, (24, 12))
    assert cells.shape == (16, 24, 12)
    torch.testing.assert_close(cells.sum(0)[6:18, 3:9], torch.ones(12, 6), atol=0.02, rtol=0)
    assert cells[6, 8:10, 7].min() > 0.9 > 0.1 > cells[6, :4].max()
    values = torch.rand(2, 24, 12)
    torch.testing.assert_close(cell_sums(values, 4), values.reshape(2, 4, 6, 4, 3).sum((2, 4)))
    torch.testing.assert_close(cell_sums(values, 5).sum((1, 2)), values.sum((1, 2)))


@pytest.mark.parametrize(
    ("num_tokens", "size", "grid"),
    [
        (168, (112, 96), (14, 12)), (169, (112, 96), (14, 12)), (42, (112, 96), (7, 6)), (196, (112, 112), (14, 14)),
        (170, (112, 112), (13, 13)), (160, (112, 96), None), (30, (112, 112), None),
    ],
)  # fmt: skip
def test_tokens_of_an_onnx_network_lie_on_the_grid_of_its_input(num_tokens, size, grid):
    assert _token_grid(num_tokens, size) == grid


def test_the_page_tells_both_sides_and_mlflows_model_takes_such_crops(trained):
    _, _, path = trained
    engine = TwinInferenceEngine(path, align="never")
    engine.set_threshold(0.5)
    assert model_answer(engine, {}).model_dump(mode="json")["image_size"] == [112, 96]
    crops = CropsToEmbeddings(load_model(path))
    np.testing.assert_allclose(
        crops.predict(pictures()), engine.extract_features(list(pictures())), atol=1e-5
    )
    with pytest.raises(ImageError, match=r"needed: uint8, \(N, 112, 96, 3\)"):
        crops.predict(pictures(size=(96, 112)))


@pytest.mark.parametrize(
    "value", [[112], [112, 96, 3], [112, 16], 16, [4096, 96], "big", [112, None], {}, True, 96.5]
)
def test_sizes_that_are_none_are_one_line(value):
    with pytest.raises(ConfigError) as error:
        TwinVerificationConfig.from_dict({"data": {"image_size": value}})
    told = str(error.value)
    assert "data.image_size: give pixels a side, or [rows, columns], from 32 to 2048" in told
    assert "\n" not in told


def test_equal_sides_are_a_square():
    for value in (64, [64, 64], (64, 64)):
        assert TwinVerificationConfig.from_dict({"data": {"image_size": value}}).data.image_size == 64


def test_a_configuration_survives_its_file(tmp_path):
    config = TwinVerificationConfig().override({"data.image_size": [112, 96]})
    config.save(tmp_path / "config.json")
    assert TwinVerificationConfig.from_file(tmp_path / "config.json") == config
