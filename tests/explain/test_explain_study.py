"""Which pairs are studied, what the figures say, and the whole of `dcal-evaluate --explain`."""

import json
import re
import shutil
import stat
from collections import Counter

import numpy as np
import pytest
import torch
from tiny import tiny_values

from twin_dcal.cli import evaluate as evaluate_command
from twin_dcal.cli import train as train_command
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.evaluation.inputs import DataFiles, read_comparisons
from twin_dcal.explain.findings import findings, markdown, table
from twin_dcal.explain.sample import StudyPair, choose_pairs, find_truth
from twin_dcal.explain.study import Row, Study, _measured
from twin_dcal.synth.generate import Settings, generate


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained") / "set"
    generate(folder, Settings(families=14, images=4, image_size=32, difficulty="easy", test_share=0.5))
    return folder


@pytest.fixture(scope="module")
def model(synthetic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained_model")
    values = tiny_values(synthetic, folder)
    values["training"]["num_epochs"] = 1
    path = folder / "tiny.json"
    path.write_text(TwinVerificationConfig.from_dict(values).model_dump_json())
    assert train_command.main(["--config", str(path)]) == 0
    return folder / "best_model.pth"


def evaluate(*arguments):
    return evaluate_command.main([*map(str, arguments), "--num_workers", "0", "--num_replicates", "0"])


def test_pairs_go_round_the_families_most_alike_in_pose_first(synthetic):
    comparisons = read_comparisons(str(synthetic), DataFiles(), "test")
    truth = find_truth(comparisons)
    person = dict(zip(comparisons.names, comparisons.people.tolist(), strict=True))
    family = dict(zip(comparisons.names, comparisons.families.tolist(), strict=True))
    pairs = choose_pairs(comparisons, 30, 0, truth)
    kinds = Counter(pair.kind for pair in pairs)
    assert kinds == {"twin": 15, "genuine": 15}
    for pair in pairs:
        assert family[pair.first] == family[pair.second] == pair.family
        assert (person[pair.first] == person[pair.second]) == (pair.kind == "genuine")
    twins = [pair for pair in pairs if pair.kind == "twin"]
    counts = Counter(pair.family for pair in twins)
    assert max(counts.values()) - min(counts.values()) <= 1
    first_of = {pair.family: pair for pair in reversed(twins)}
    for name, pair in first_of.items():
        members = [image for image in comparisons.names if family[image] == name]
        best = min(truth.pose_apart(a, b) for a in members for b in members if person[a] < person[b])
        assert truth.pose_apart(pair.first, pair.second) == best
    assert choose_pairs(comparisons, 30, 0, truth) == pairs
    assert choose_pairs(comparisons, 30, 1, truth) != pairs


def test_listed_pairs_without_people_are_taken_as_they_are(synthetic, tmp_path):
    alone = shutil.copytree(synthetic, tmp_path / "set")
    for description in ("twin_pairs_infor.json", "dataset_infor.json"):
        (alone / description).unlink()
    comparisons = read_comparisons(str(alone / "test_pairs.json"), DataFiles(), "test")
    pairs = choose_pairs(comparisons, 10, 0, None)
    assert Counter(pair.kind for pair in pairs) == {"impostor": 5, "genuine": 5}


def test_truth_is_found_for_syntwins_alone(synthetic, tiny_faces):
    assert find_truth(read_comparisons(str(tiny_faces), DataFiles(), "test")) is None
    comparisons = read_comparisons(str(synthetic), DataFiles(), "test")
    truth = find_truth(comparisons)
    pair = choose_pairs(comparisons, 2, 0, truth)[0]
    differences, faces = truth.differences(pair)
    for difference, face in zip(differences, faces, strict=True):
        assert difference.shape == face.shape == (32, 32)
        assert difference.max() > 5
        assert (difference[face == 0] == 0).all()


class Planted:
    """A truth that lies in one corner of both pictures."""

    def differences(self, pair):
        difference = np.zeros((32, 32))
        difference[:8, :8] = 100
        return (difference, difference), (np.ones((32, 32)), np.ones((32, 32)))


def test_a_signed_map_points_with_its_most_negative_cell_and_an_unsigned_one_with_its_highest():
    different, same = np.zeros((2, 8, 8)), np.zeros((2, 8, 8))
    different[:, 0, 0], different[:, 7, 7] = -1, 0.5
    same[:, 0, 0], same[:, 7, 7] = 1, -0.5
    maps = {
        "combined": different,
        "occlusion": same,
        "gradients": different,
        "rollout": same,
        "centre": different,
    }
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pair = StudyPair("a", "b", "twin", "f")
    rows = _measured(
        lambda x: torch.nn.functional.normalize(x.flatten(1), dim=-1), images, maps, pair, Planted()
    )
    told = {row.name: row.pointing for row in rows}
    assert told == {"combined": 1, "occlusion": 0, "gradients": 1, "rollout": 1, "centre": 0}
    assert rows[0].chance == pytest.approx((9 / 32) ** 2)  # widened by a pixel
    assert rows[0].ranking > 0.5 > rows[1].ranking
    genuine = _measured(
        lambda x: torch.nn.functional.normalize(x.flatten(1), dim=-1), images, maps,
        StudyPair("a", "b", "genuine", "f"), Planted(),
    )  # fmt: skip
    assert all(np.isnan(row.pointing) for row in genuine)


def rows_of(name, gaps, kind="twin", pointing=None):
    """A family each; deletion 0.5."""
    pointing = [float("nan")] * len(gaps) if pointing is None else pointing
    return [
        Row(name, kind, f"f{number}", 0.5, 0.5 + gap, point, 0.1, 0.5)
        for number, (gap, point) in enumerate(zip(gaps, pointing, strict=True))
    ]


def test_figures_are_means_with_intervals_and_unsigned_maps_may_turn():
    rng = np.random.default_rng(0)
    gaps = rng.normal(0.3, 0.1, 40)
    rows = [
        *rows_of("occlusion", gaps, pointing=[1.0, 0.5] * 20),
        *rows_of("centre", -gaps / 3, pointing=[0.0, 0.5] * 20),
        *rows_of("random", rng.normal(0, 0.1, 40), pointing=[0.0] * 40),
    ]
    told = findings(Study(rows, {"occlusion": np.array([0.1, 0.3])}))
    occlusion, centre = told["maps"]["occlusion"], told["maps"]["centre"]
    assert occlusion["twin"]["faithfulness"]["value"] == pytest.approx(gaps.mean())
    spread = gaps.std() / np.sqrt(40)
    assert occlusion["twin"]["faithfulness"]["low"] == pytest.approx(
        gaps.mean() - 2.02 * spread, abs=0.3 * spread
    )
    assert occlusion["twin"]["pointing"]["value"] == 0.75
    assert occlusion["shuffled_weights_correlation"] == pytest.approx(0.2)
    assert centre["twin"]["read_as"] == "different"
    assert centre["twin"]["faithfulness"]["value"] == pytest.approx(gaps.mean() / 3)
    assert centre["twin"]["deletion"] + centre["twin"]["insertion"] == pytest.approx(1 - gaps.mean() / 3)
    over = occlusion["twin"]["faithfulness_over_centre"]
    assert over["value"] == pytest.approx(2 / 3 * gaps.mean())
    assert over["low"] > 0
    assert told["maps"]["random"]["twin"]["pointing"]["value"] == pytest.approx(0.1)
    assert "better than the centre prior's" in table(told)
    assert max(map(len, table(told).splitlines())) <= 100
    assert markdown(told).count("\n| ") == 5


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (0.0, "no better than"),
        (0.4, "better than the centre prior's, by"),
        (-0.4, "worse than the centre prior's"),
    ],
)
def test_the_verdict_says_what_the_interval_says(shift, words):
    rng = np.random.default_rng(1)
    base = rng.normal(0.5, 0.1, 30)
    rows = [*rows_of("occlusion", base + shift + rng.normal(0, 0.1, 30)), *rows_of("centre", base)]
    text = table(findings(Study(rows, {}))).replace("\n", " ")
    assert f"faithfulness is {words}" in text
    assert ("no better" in text) == (shift == 0)


def test_pairs_of_one_family_move_together():
    """Ten families of ten equal pairs have the interval of ten pairs."""
    values = np.random.default_rng(2).normal(0.2, 0.1, 10)
    many = [row for row in rows_of("occlusion", values) for _ in range(10)] + [
        row for row in rows_of("centre", 0 * values) for _ in range(10)
    ]
    few = [*rows_of("occlusion", values), *rows_of("centre", 0 * values)]
    wide, same = (
        findings(Study(rows, {}))["maps"]["occlusion"]["twin"]["faithfulness"] for rows in (many, few)
    )
    assert wide == pytest.approx(same)
    three = [*rows_of("occlusion", values[:3]), *rows_of("centre", values[:3])]
    told = findings(Study(three, {}))["maps"]["occlusion"]["twin"]["faithfulness"]
    assert told["low"] is None


def test_evaluate_explains_a_syntwins_model(synthetic, model, tmp_path, capsys):
    given = ["--model", model, "--data_dir", synthetic, "--output_dir", tmp_path, "--visualize"]
    assert evaluate(*given, "--explain", "--explain_pairs", 6) == 0
    out = capsys.readouterr().out
    assert re.search(r"map +faithful: twin +faithful: genuine +points at truth % +ranks it", out)
    for name in (
        "gradients",
        "combined",
        "occlusion",
        "rollout \\(SA\\)",
        "GLCA attention",
        "centre prior",
        "random",
        "pixel difference",
    ):
        assert re.search(rf"^ *{name} +-?\d\.\d\d", out, re.MULTILINE), name
    assert "shuffled weights" in out
    told = json.loads((tmp_path / "explanations.json").read_text())
    assert told["pairs"]["twin"]["pairs"] == told["pairs"]["genuine"]["pairs"] == 3
    assert 0 < told["maps"]["random"]["twin"]["pointing"]["value"] < 0.6
    assert (tmp_path / "explanations.md").read_text().startswith("# Explanations")
    drawn = sorted((tmp_path / "visualizations").glob("explained_*.png"))
    assert [path.stem[-7:] for path in drawn] == [
        "01_twin",
        "02_twin",
        "03_twin",
        "genuine",
        "genuine",
        "genuine",
    ]
    for path in (*drawn, tmp_path / "explanations.json", tmp_path / "explanations.md"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    page = (tmp_path / "report.html").read_text()
    assert 0 < page.count('<img class="overlay"') <= 12
    assert "In grey below a pair" in page


@pytest.mark.parametrize("switch", ["--no_images", "--blur_images"])
def test_no_face_is_drawn_where_faces_are_not_wanted(synthetic, model, tmp_path, switch):
    given = ["--model", model, "--data_dir", synthetic, "--output_dir", tmp_path, "--visualize"]
    assert evaluate(*given, "--analyze_attention", "--explain_pairs", 2, switch) == 0
    assert (tmp_path / "explanations.json").is_file()
    assert not list((tmp_path / "visualizations").glob("explained_*.png"))
    page = (tmp_path / "report.html").read_text()
    assert 'class="overlay"' not in page
    assert "In grey below a pair" not in page


def test_sets_without_a_truth_are_measured_without_the_pointing_game(tiny_faces, model, tmp_path, capsys):
    given = ["--model", model, "--data_dir", tiny_faces, "--output_dir", tmp_path]
    assert evaluate(*given, "--explain", "--explain_pairs", 2) == 0
    out = capsys.readouterr().out
    assert "points at truth" not in out
    assert "too few families for an interval" in out.replace("\n", " ")
