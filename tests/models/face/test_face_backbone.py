"""DCAL on a face network: it starts as that network, whatever the branches, and keeps what is frozen."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_face import EMBEDDING, tiny_face_onnx

from twin_dcal.checkpoint import load_model, save_model
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.templates import ARCFACE112, OURS, scale_and_shift
from twin_dcal.errors import ModelError
from twin_dcal.losses import pair_loss, strangers_loss
from twin_dcal.models.attention import twin_partners
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.models.face.geometry import resample, resampling
from twin_dcal.training.objective import Objective


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("face") / "tiny.onnx"
    tiny_face_onnx(path)
    return path


def configuration(file, **changes):
    values = {
        "model.backbone": "onnx", "model.pretrained": str(file), "model.attention_dim": EMBEDDING,
        "model.num_heads": 2, "model.num_blocks": 2, "data.image_size": 48, "runtime.num_workers": 0,
    }  # fmt: skip
    return TwinVerificationConfig().override(values | changes)


def build(file, **changes):
    torch.manual_seed(0)
    return DCALVerificationModel.from_config(configuration(file, **changes))


def crops(count=6, size=48, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def networks_own(model, images):
    """Unit embeddings of the face network itself, by the path its users take."""
    backbone = model.backbone
    with torch.no_grad():
        return F.normalize(backbone.network(resample(images, backbone.rows, backbone.columns)), dim=1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model.branches": ["sa"]},
        {"model.branches": ["sa"], "model.num_blocks": 0},
        {"model.glca_pool": "local"},
        {"model.attention_dim": EMBEDDING + 8},
        {"model.frozen_stride": 4},
        {"model.frozen_stride": 16},
        {"model.feature_strides": [4, 8, 16]},
        {"model.fusion": 0.3},
        {"model.pwca_blocks": 1},
    ],
    ids=str,
)
def test_before_training_every_score_is_the_networks_cosine(file, changes):
    model = build(file, **changes)
    images = crops()
    unit = networks_own(model, images)
    expected = unit @ unit.T
    for name, features in model.eval().features(images).items():
        torch.testing.assert_close(features @ features.T, expected, atol=1e-5, rtol=0, msg=name)
    model.train()
    branches = model(images)
    for name, embedding in branches.active().items():
        rows = F.normalize(embedding, dim=1)
        torch.testing.assert_close((rows @ rows.T).detach(), expected, atol=1e-5, rtol=0, msg=name)


def trained(model, images, steps=3, rate=0.02):
    people, families = torch.arange(6) // 2, torch.arange(6) // 4
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=rate)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        sum(pair_loss(e, people, scale=16, margin=0.2) for e in model(images).active().values()).backward()
        optimizer.step()
    return families


@pytest.mark.parametrize("pool", ["cls", "local"])
@pytest.mark.parametrize("frozen", [0, 4, 16])
def test_training_moves_the_score_and_never_the_untouched_network(file, frozen, pool):
    model = build(file, **{"model.frozen_stride": frozen, "model.glca_pool": pool})
    images = crops()
    before, untouched = networks_own(model, images), model(images).untouched.detach()
    trained(model, images)
    with torch.no_grad():
        encoded = model.eval().backbone.read(images)
        features = model.features(images)
    torch.testing.assert_close(encoded.untouched, untouched)
    torch.testing.assert_close(F.normalize(encoded.untouched, dim=1), before, atol=1e-5, rtol=0)
    for name in ("sa", "glca"):
        cosines = features[name] @ features[name].T
        assert (cosines - before @ before.T).abs().max() > 1e-3, name
    assert not torch.allclose(
        features["sa"] @ features["sa"].T, features["glca"] @ features["glca"].T, atol=1e-4
    )


def test_frozen_stages_keep_weights_and_give_what_can_be_kept(file):
    model = build(file, **{"model.frozen_stride": 4})
    stages = model.backbone.network.stages
    frozen = {name: value.clone() for name, value in stages[:2].state_dict().items()}
    images = crops()
    kept = model.backbone.frozen(images)
    model.eval()
    torch.testing.assert_close(model(kept).sa, model(images).sa)
    trained(model, images)
    for name, value in stages[:2].state_dict().items():
        assert torch.equal(value, frozen[name]), name
    assert any(value.grad is not None for value in stages[2:].parameters())
    torch.testing.assert_close(model.backbone.frozen(images), kept)


def test_batch_statistics_stay_those_of_the_network(file):
    model = build(file)
    before = {name: value.clone() for name, value in model.backbone.network.named_buffers()}
    trained(model, crops())
    for name, value in model.backbone.network.named_buffers():
        assert torch.equal(value, before[name]), name


def test_the_fused_cosine_is_the_weighted_sum(file):
    model = build(file, **{"model.fusion": 0.3})
    images = crops()
    trained(model, images)
    with torch.no_grad():
        parts, encoded = model.eval().features(images), model.backbone.read(images)
    ours = (parts["sa"] @ parts["sa"].T + parts["glca"] @ parts["glca"].T) / 2
    unit = F.normalize(encoded.untouched, dim=1)
    combined = parts["combined"]
    torch.testing.assert_close(combined @ combined.T, 0.3 * unit @ unit.T + 0.7 * ours)
    assert combined.shape[1] == model.embedding_dim()


def test_a_checkpoint_needs_no_onnx_file(file, tmp_path):
    copied = tmp_path / "copy.onnx"
    copied.write_bytes(file.read_bytes())
    config = configuration(copied)
    model = DCALVerificationModel.from_config(config)
    images = crops()
    trained(model, images)
    save_model(tmp_path / "m.pth", model, config)
    copied.unlink()
    loaded = load_model(tmp_path / "m.pth").model
    with torch.no_grad():
        torch.testing.assert_close(loaded.embed(images), model.eval().embed(images))


def test_widths_and_strides_that_do_not_fit_are_one_line(file):
    with pytest.raises(ModelError, match="attention_dim 8 is below the 16"):
        build(file, **{"model.attention_dim": 8})
    with pytest.raises(ModelError, match="has no embedding of its own"):
        DCALVerificationModel(
            "test_resnet", branches=["sa"], num_blocks=0, image_size=32, attention_dim=16, num_heads=2
        )
    with pytest.raises(ModelError, match="feature maps of stride 2, 4, 8, 16"):
        build(file, **{"model.feature_strides": [3]})


def test_shared_blocks_change_only_what_pwca_sees(file):
    """With k = L the paper; with k < L the first blocks run once, for SA, whose output stays the same."""
    images, partner = crops(), torch.tensor([1, 2, 3, 4, 5, 0])
    model = build(file)
    trained(model, images)
    model.train()
    torch.manual_seed(0)
    whole = model(images, partner)
    model.pwca_blocks = 1
    torch.manual_seed(0)
    half = model(images, partner)
    torch.testing.assert_close(whole.sa, half.sa)
    assert not torch.allclose(whole.pwca, half.pwca, atol=1e-5)
    model.pwca_blocks = 2
    torch.manual_seed(0)
    torch.testing.assert_close(model(images, partner).pwca, whole.pwca)


def test_resampling_is_pillows_bilinear():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    image = torch.tensor(pixels).permute(2, 0, 1)[None].float()
    for size in (16, 40, 56):
        ours = resample(image, resampling(40, size), resampling(40, size))
        theirs = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
        assert np.abs(ours[0].permute(1, 2, 0).numpy() - theirs).max() <= 0.51 + 0.5


def test_landmarks_of_one_template_meet_the_other():
    scale, x, y = scale_and_shift(OURS, ARCFACE112)
    moved = scale * OURS + [x, y]
    # Two detectors mark noses differently; no scale and shift brings them closer than this.
    assert np.sqrt(((moved - ARCFACE112) ** 2).sum(axis=1).mean()) * 112 < 1.9
    for factor in (0.97, 1.03):
        assert ((factor * moved + (1 - factor) * moved.mean(axis=0) - ARCFACE112) ** 2).sum() > (
            (moved - ARCFACE112) ** 2
        ).sum()
    assert scale_and_shift(ARCFACE112, ARCFACE112) == pytest.approx((1, 0, 0), abs=1e-12)
    # A bright dot at a place of the crop lies where the similarity says.
    side = 224
    crop = torch.zeros(1, 1, side, side)
    column, row = (OURS[1] * side).astype(int)
    crop[0, 0, row - 2 : row + 3, column - 2 : column + 3] = 1
    out = resample(crop, resampling(side, 112, scale, y), resampling(side, 112, scale, x))[0, 0]
    found = np.unravel_index(int(out.argmax()), out.shape)
    assert np.abs(np.array(found[::-1]) + 0.5 - moved[1] * 112).max() < 1.5


def test_an_upside_down_scale_is_refused():
    with pytest.raises(ValueError, match="cannot resample"):
        resampling(10, 10, scale=-1.0)


def test_pair_loss_is_the_loop():
    rows = torch.randn(
        7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True
    )
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 3])
    unit = F.normalize(rows.detach(), dim=1).numpy()
    terms = []
    for a in range(7):
        for p in range(7):
            if a != p and labels[a] == labels[p]:
                impostors = [unit[a] @ unit[n] for n in range(7) if labels[n] != labels[a]]
                terms.append(np.log1p(sum(np.exp(8 * (c - unit[a] @ unit[p] + 0.1)) for c in impostors)))
    loss = pair_loss(rows, labels, scale=8, margin=0.1)
    assert loss.item() == pytest.approx(np.mean(terms))
    assert torch.autograd.gradcheck(lambda x: pair_loss(x, labels, scale=8, margin=0.1), (rows,))
    alone = pair_loss(rows, torch.arange(7), scale=8, margin=0.1)
    assert alone.item() == 0
    assert alone.requires_grad


def test_strangers_loss_is_the_loop():
    generator = torch.Generator().manual_seed(1)
    rows, reference = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    families = torch.tensor([0, 0, 1, 2, 2])
    one, two = F.normalize(rows, dim=1).numpy(), F.normalize(reference, dim=1).numpy()
    squares = [
        (one[a] @ one[b] - two[a] @ two[b]) ** 2
        for a in range(5)
        for b in range(5)
        if families[a] != families[b]
    ]
    assert strangers_loss(rows, reference, families).item() == pytest.approx(np.mean(squares))
    assert strangers_loss(rows, rows, families).item() == 0
    rows.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: strangers_loss(x, reference, families), (rows,))


def test_the_twin_is_the_distractor_where_there_is_one():
    people, families = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 0, 1, 1])
    seen = set()
    for seed in range(30):
        partner = twin_partners(people, families, torch.Generator().manual_seed(seed))
        assert (partner != torch.arange(6)).all()
        assert set(partner[:2].tolist()) <= {2, 3}
        assert set(partner[2:4].tolist()) <= {0, 1}
        seen.add(int(partner[0]))
    assert seen == {2, 3}


def test_the_objective_takes_the_twin_as_the_distractor(file, monkeypatch):
    model = build(file)
    given = []
    monkeypatch.setattr(
        model, "forward", lambda images, partner=None: given.append(partner) or real(images, partner)
    )
    real = DCALVerificationModel.forward.__get__(model)
    people, families, index = torch.arange(6) // 2, torch.arange(6) // 4, torch.arange(6)
    from twin_dcal.config import LossConfig
    from twin_dcal.losses import DCALLoss

    loss = DCALLoss(model.width, 3, model.branches, LossConfig(head="pairs", strangers_weight=2.0))
    for twins in (True, False):
        Objective(model, loss, across_ranks=True, amp_dtype=None, twin_partners=twins)(
            crops(), people, families, index
        )
    assert given[0] is not None
    assert given[1] is None
    assert set(given[0][:2].tolist()) <= {2, 3}


@pytest.mark.parametrize("frozen", [0, 4, 16])
def test_pixels_have_gradients_for_explanations(file, frozen):
    model = build(file, **{"model.frozen_stride": frozen}).eval()
    images = crops().requires_grad_()
    model.embed(images)[0].sum().backward()
    assert images.grad[0].abs().sum() > 0


def test_an_exported_model_decides_by_the_same_score(file, tmp_path):
    """The fused score of two cosines, and the embedding of a batch of any size."""
    pytest.importorskip("onnxscript")
    from twin_dcal.export.flow import export_model
    from twin_dcal.inference.engine import TwinInferenceEngine
    from twin_dcal.metrics.fusion import Fusion

    config = configuration(file)
    model = DCALVerificationModel.from_config(config)
    trained(model, crops())
    fusion = Fusion(EMBEDDING, 0.5, (-2.0, 9.0, -4.0), (20.0, 3.0, -9.0), "made up")
    save_model(tmp_path / "m.pth", model, config, fusion=fusion)
    export_model(tmp_path / "m.pth", tmp_path / "m.onnx")
    ours, exported = (TwinInferenceEngine(tmp_path / name, align="never") for name in ("m.pth", "m.onnx"))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), np.uint8)
    features = ours.extract_features(list(pixels))
    split = features[:, :EMBEDDING], features[:, EMBEDDING:]
    expected = fusion.score(*(2 * part[0] @ part[1] for part in split))
    for engine in (ours, exported):
        found = engine._similarity(engine.extract_features(list(pixels[:2])))
        assert found == pytest.approx(float(expected), abs=1e-5)
        assert engine.compute_similarity_matrix(list(pixels))[0, 1] == pytest.approx(
            float(expected), abs=1e-5
        )


def test_features_of_a_fused_model_are_compared_by_its_own_score(file, tmp_path, capsys):
    """Neighbours, the matrix and clusters beside them, and an evaluation of the file: as the engine decides."""
    from twin_dcal.cli import evaluate, extract, prepare
    from twin_dcal.inference.engine import TwinInferenceEngine
    from twin_dcal.metrics.error_curve import Threshold
    from twin_dcal.metrics.fusion import Fusion

    config = configuration(file)
    fusion = Fusion(EMBEDDING, 0.5, (-2.0, 9.0, -4.0), (20.0, 3.0, -9.0), "made up")
    model = DCALVerificationModel.from_config(config)
    trained(model, crops())
    path, faces, out = tmp_path / "m.pth", tmp_path / "faces", tmp_path / "out"
    rng = np.random.default_rng(0)
    for person in "abc":
        (faces / person).mkdir(parents=True)
        pattern = np.kron(rng.integers(40, 215, (4, 4, 3)), np.ones((12, 12, 1)))
        for photo in range(3):
            pixels = np.clip(pattern + rng.normal(0, 25, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(faces / person / f"{photo}.png")
    names = sorted(map(str, faces.rglob("*.png")))
    save_model(path, model, config, fusion=fusion)
    scores = TwinInferenceEngine(path, align="never").compute_similarity_matrix(names)
    others = np.sort(scores[~np.eye(9, dtype=bool)])
    origin = {"data": "x", "criterion": "eer", "impostors": "twin", "fmr": 0.1, "fnmr": 0.2, "warning": "few"}
    save_model(path, model, config, fusion=fusion, threshold=Threshold(float(others[-10]), origin))
    given = ["--model", str(path), "--images_dir", str(faces), "--align", "never", "--num_workers", "0"]
    asked = ["--cluster_features", "--top_k_similar", "8", "--similarity_matrix", "--output_dir", str(out)]
    assert extract.main([*given, *asked]) == 0, capsys.readouterr().err

    with np.load(out / "similarity_matrix.npz") as stored:
        assert stored["similarity_matrix"] == pytest.approx(scores, abs=1e-5)
    for row, entry in enumerate(json.loads((out / "top_k_similar.json").read_text())):
        told = {each["image"]: each["similarity"] for each in entry["similar"]}
        assert told == pytest.approx({names[at]: scores[row, at] for at in range(9) if at != row}, abs=1e-5)
        assert list(told.values()) == sorted(told.values(), reverse=True)
    groups = [line.split(",") for line in (out / "clusters.csv").read_text().splitlines()[1:]]
    assert partition(groups) == average_linkage(names, scores, float(others[-10]))

    report = tmp_path / "report"
    features = [
        "--embeddings",
        str(out / "features.npz"),
        "--data_dir",
        str(faces),
        "--output_dir",
        str(report),
    ]
    assert evaluate.main([*features, "--num_replicates", "0"]) == 0, capsys.readouterr().err
    told = json.loads((report / "evaluation_report.json").read_text())
    assert told["threshold"] == pytest.approx(float(others[-10]))
    assert told["threshold_source"] == "eer on the twin impostors of x"
    assert "threshold: few" in told["warnings"]
    kinds = np.equal.outer(*[[name.split("/")[-2] for name in names]] * 2)[np.triu_indices(9, 1)]
    accepted = scores[np.triu_indices(9, 1)] >= others[-10]
    found = told["all"]["fmr"], told["all"]["fnmr"]
    assert found == pytest.approx((accepted[~kinds].mean(), 1 - accepted[kinds].mean()))
    with np.load(out / "features.npz") as stored:
        assert json.loads(str(stored["metadata"]))["decision"]["origin"] == origin

    capsys.readouterr()
    assert (
        extract.main([*given, "--cluster_features", "--feature_type", "sa", "--output", str(out / "sa.npz")])
        == 2
    )
    assert "is of the combined feature; leave out --feature_type sa" in capsys.readouterr().err
    assert prepare.main([str(tmp_path), "--output", str(tmp_path / "crops"), "--model", str(path)]) == 2
    assert "of a fused score, not of a cosine; give --min_cosine" in capsys.readouterr().err


def average_linkage(names, scores, threshold):
    """Groups of names: the two of the highest mean score are joined while it reaches the threshold."""
    groups = [[at] for at in range(len(names))]
    while True:
        means = [
            (np.mean([scores[a, b] for a in one for b in other]), i, j)
            for i, one in enumerate(groups) for j, other in enumerate(groups[:i])
        ]  # fmt: skip
        if not means or max(means)[0] < threshold:
            break
        _, i, j = max(means)
        groups[j] += groups.pop(i)
    assert 1 < len(groups) < len(names), "a threshold that joins all or none tests nothing"
    return {frozenset(names[at] for at in group) for group in groups}


def partition(rows):
    numbers = {number for number, _ in rows}
    return {frozenset(name for each, name in rows if each == number) for number in numbers}
