"""dcal-ablate: what is trained and what is not, the paired bootstrap over seeds, tables and curves."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from tiny import tiny_values

sys.path.insert(0, str(Path(__file__).parent / "evaluation"))
from made_faces import all_listed, faces

from twin_dcal.ablation import runs as ablation_runs
from twin_dcal.ablation.flow import Plan, write_ablation
from twin_dcal.ablation.runs import plan_runs, standing_of, train_runs
from twin_dcal.ablation.summary import ScoredRun, summarize
from twin_dcal.ablation.tables import HEAD, escaped, latex, markdown
from twin_dcal.ablation.variants import read_variants, read_variants_file
from twin_dcal.cli import ablate as command
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ConfigError, MetricError
from twin_dcal.evaluation.compare import Run, compare
from twin_dcal.evaluation.evaluate import EvaluationOptions
from twin_dcal.evaluation.protocol import Comparisons, pair_source
from twin_dcal.evaluation.systems import Scored
from twin_dcal.metrics import confidence
from twin_dcal.metrics.averaging import jackknife, mean_difference
from twin_dcal.metrics.paired import paired_intervals
from twin_dcal.report.comparison import (
    Overlaid,
    comparison_figure,
    mean_curve,
    systems_of,
    write_comparison_plot,
)
from twin_dcal.training.loop import TrainingResult

TINY = [
    "--config", "debug", "--model.backbone", "test_vit", "--data.image_size", "32", "--training.num_epochs", "1",
    "--training.images_per_person", "2", "--training.warmup_epochs=0", "--runtime.num_workers", "0",
    "--runtime.device", "cpu", "--runtime.num_threads", "1", "--num_replicates", "100",
]  # fmt: skip
SA, GLCA = read_variants(["sa", "sa+glca"])
EFFORT = EvaluationOptions(num_replicates=200)
SIGNATURES = {
    ".png": (b"\x89PNG", b"IEND\xaeB`\x82"),
    ".pdf": (b"%PDF", b"%%EOF\n"),
    ".svg": (b"<?xml", b"</svg>"),
}


def ablate(*arguments):
    return command.main([*TINY, *map(str, arguments)])


def one_error(capsys, code, pattern):
    assert code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert re.search(pattern, lines[0]), lines[0]


def whole_plots(folder, name):
    for ending, (begins, ends) in SIGNATURES.items():
        data = (folder / "visualizations" / f"{name}{ending}").read_bytes()
        assert data.startswith(begins), ending
        assert data.rstrip().endswith(ends.rstrip()), ending
    assert not list(folder.rglob("*.tmp"))


def noisy(comparisons, vectors, noise, seed, shuffle=False):
    worse = vectors + noise * np.random.default_rng((seed, 4)).normal(size=vectors.shape).astype(np.float32)
    if not shuffle:
        return comparisons, worse
    order = np.random.default_rng(seed).permutation(len(comparisons.names))
    names = [comparisons.names[row] for row in order]
    return Comparisons(
        "other", names, comparisons.people[order], comparisons.families[order], None, {}
    ), worse[order]


def scored_run(variant, seed, comparisons, vectors):
    scored = Scored(comparisons, pair_source(comparisons, vectors), vectors)
    return ScoredRun(variant, seed, Run(f"{variant.name} {seed}", scored), {"folder": "x"})


@pytest.fixture(scope="module")
def summary():
    """Two variants, two seeds, 8 families; one run's images are in another order."""
    comparisons, vectors = faces(8, images_each=3)
    return summarize(
        [
            scored_run(SA, 0, *noisy(comparisons, vectors, 0.3, 0)),
            scored_run(SA, 1, *noisy(comparisons, vectors, 0.3, 1)),
            scored_run(GLCA, 0, *noisy(comparisons, vectors, 0.9, 2, shuffle=True)),
            scored_run(GLCA, 1, *noisy(comparisons, vectors, 0.9, 3)),
        ],
        EFFORT,
    )


# Names of variants


def test_combinations_are_read_in_the_order_they_are_named():
    named = read_variants(["sa+pwca", "sa", "all"])
    assert [variant.name for variant in named] == ["sa+pwca", "sa", "sa+glca+pwca"]
    assert read_variants(["pwca+sa"]) == read_variants(["sa+pwca"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["sa", "sa+glac"],
            r"--branches sa\+glac: no branch 'glac'; did you mean 'glca'\? Write combinations",
        ),
        (["al"], r"no branch 'al'; did you mean 'all'\?"),
        (["vit"], r"no branch 'vit'\. Write combinations of sa, glca, pwca"),
        (["all+sa"], r"no branch 'all'\. Write"),
        (["sa+"], r"no branch ''"),
        (["glca"], r"--branches glca: 'sa' is the backbone itself and in every combination; write sa\+glca"),
        (["sa+sa"], "'sa' is named twice"),
        (["sa", "sa+pwca", "pwca+sa"], r"'pwca\+sa' is sa\+pwca, which is named already"),
        (["all", "sa+pwca+glca"], r"'sa\+pwca\+glca' is sa\+glca\+pwca, which is named already"),
    ],
)
def test_wrong_combinations_are_one_line(names, message, capsys):
    with pytest.raises(ConfigError, match=message):
        read_variants(names)
    one_error(capsys, ablate("--data_dir", "nowhere", "--branches", *names), message)


def test_variants_of_a_file_change_any_key(tmp_path):
    path = tmp_path / "variants.json"
    path.write_text(
        '{"alone": {"model.num_blocks": 0, "model.branches": ["sa"]}, "held": {"loss.scale": 16}}'
    )
    alone, held = read_variants_file(path)
    assert (alone.name, held.name) == ("alone", "held")
    assert alone.overrides() == {"model.num_blocks": 0, "model.branches": ("sa",)}
    (run, *_) = plan_runs(TwinVerificationConfig(), (held,), 1, tmp_path)
    assert run.config.loss.scale == 16
    assert run.folder == tmp_path / "held" / "seed0"


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "write an object"), ("{}", "write an object"), ('{"a": 1}', "write an object"), ("{", "not a JSON file"),
     ('{"../a": {}}', "letters, digits"), ('{".a": {}}', "letters, digits"), ('{"ablation.md": {}}', "letters, digits"),
     ('{"' + 101 * "a" + '": {}}', "letters, digits"), ('{"a": {}, "a": {}}', "'a' is written twice"),
     ('{"a": {}, "A": {}}', "differ in capitals alone"), ('{"s5": {"runtime.seed": 5}}', "use --seeds"),
     ('{"x": {"runtime.output_dir": "y"}}', "use --output_dir")],
)  # fmt: skip
def test_wrong_variants_files_are_one_line(text, message, tmp_path, capsys):
    path = tmp_path / "variants.json"
    path.write_text(text)
    one_error(capsys, ablate("--variants", path), message)


def test_an_endless_variants_file_is_refused(capsys):
    one_error(capsys, ablate("--variants", "/dev/zero"), "a pipe or a device")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "--seeds 0: train with at least 1 seed"),
        (["--seeds", "-2"], "--seeds -2"),
        (["--max_unrelated", "0"], "--max_unrelated 0"),
        (
            ["--model.branches", '["sa"]'],
            "--model.branches: dcal-ablate sets it for every run; use --branches",
        ),
        (["--runtime.output_dir", "x"], "--runtime.output_dir: dcal-ablate sets it"),
        (["--tracking.backend", "wandb"], "tracking.backend wandb: dcal-ablate needs none"),
        (["--training.lr", "1"], "unknown key 'training.lr'"),
        (["--output_dir", __file__], "is a file; name a folder"),
        (["--data.test_fraction", "0", "--data_dir", "PEOPLE"], "the test split has 0 people with 0 images"),
    ],
)
def test_wrong_settings_are_one_line_before_anything_is_trained(
    tiny_faces, tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.setattr("twin_dcal.training.run.train", None)
    arguments = [str(tiny_faces / "train") if part == "PEOPLE" else part for part in arguments]
    given = ["--data_dir", tiny_faces, "--output_dir", tmp_path / "out", *arguments]
    one_error(capsys, ablate(*given), message)
    assert not (tmp_path / "out").exists()


def test_a_test_split_of_one_person_is_refused_before_training(tiny_faces, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("twin_dcal.training.run.train", None)
    data = tmp_path / "faces"
    (data / "test").mkdir(parents=True)
    (data / "train").symlink_to(tiny_faces / "train")
    (data / "test" / "6a").symlink_to(tiny_faces / "test" / "6a")
    given = ["--data_dir", data, "--output_dir", tmp_path / "out", "--data.val_fraction", "0"]
    one_error(
        capsys, ablate(*given), "the test split has 1 person with 6 images at most; comparing needs 2 people"
    )


# Runs


@pytest.fixture
def planned(tiny_faces, tmp_path):
    config = TwinVerificationConfig.from_dict(tiny_values(tiny_faces, tmp_path / "unused"))
    return plan_runs(config, [SA, GLCA], 2, tmp_path / "out")


def made(run, split):
    """A folder as training leaves it."""
    run.folder.mkdir(parents=True)
    run.config.save(run.folder / "config.json")
    (run.folder / "split.json").write_text(
        json.dumps({name: [p for p in split if split[p] == name] for name in ("train", "val", "test")})
    )
    (run.folder / "last.pth").write_bytes(b"state")
    run.best_model.write_bytes(b"model")


def training(monkeypatch, finished=True):
    """Stand in for training; the calls it got."""
    calls = []

    def train(config, *, resume=None, overwrite=False):
        folder = Path(config.runtime.output_dir)
        assert not (folder / ablation_runs.RECORD_NAME).exists()
        calls.append((folder.parent.name, config.runtime.seed, resume, overwrite))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "best_model.pth").write_bytes(b"new")
        return TrainingResult(finished, folder / "best_model.pth", {}, 1, 0.0)

    monkeypatch.setattr("twin_dcal.training.run.train", train)
    return calls


def test_every_variant_and_seed_has_a_run_on_one_split(planned, tmp_path):
    assert [(run.variant, run.seed) for run in planned] == [(SA, 0), (SA, 1), (GLCA, 0), (GLCA, 1)]
    for run in planned:
        assert run.config.model.branches == run.variant.branches
        assert run.config.runtime.seed == run.seed
        assert run.folder == tmp_path / "out" / run.variant.name / f"seed{run.seed}"
        assert run.config.data.split_file == str(tmp_path / "out" / "split.json")


def test_only_what_is_not_finished_is_trained(planned, monkeypatch):
    split = {"a": "train", "b": "test"}
    calls = training(monkeypatch)
    assert train_runs(planned, ["finished", "unfinished", "finished", "new"])
    assert calls == [("sa", 1, "auto", False), ("sa+glca", 1, "auto", False)]
    for run in planned[:2]:
        if not run.folder.exists():
            made(run, split)
    run = planned[0]
    assert standing_of(run, split) == "unfinished"  # no record
    assert train_runs([run], ["unfinished"])
    assert standing_of(run, split) == "finished"
    assert standing_of(planned[3], split) == "new"  # trained here by the stand-in, which leaves no last.pth
    run.best_model.write_bytes(b"another model")
    assert standing_of(run, split) == "unfinished"
    (run.folder / ablation_runs.RECORD_NAME).write_text("[1")
    assert standing_of(run, split) == "unfinished"
    run.best_model.unlink()
    assert standing_of(run, split) == "unfinished"
    (run.folder / ablation_runs.RECORD_NAME).write_text('{"best_model_sha256": "abc"}')
    with pytest.raises(
        ConfigError, match=r"best_model\.pth of a finished run is gone: bring it back, or delete"
    ):
        standing_of(run, split)


def test_a_run_of_another_configuration_is_refused_not_mixed_in(planned):
    split = {"a": "train", "b": "test"}
    run = planned[2]
    made(run, split)
    elsewhere = run.config.override(
        {"runtime.device": "cuda", "runtime.num_workers": 7, "data.data_dir": "moved"}
    )
    assert standing_of(replace(run, config=elsewhere), split) == "unfinished"
    longer = replace(run, config=run.config.override({"training.num_epochs": 9, "loss.margin": 0.2}))
    message = r"seed0 holds a run of another config\S+: training\.num_epochs 2, now 9, loss\.margin 0\.35, now 0\.2;"
    with pytest.raises(ConfigError, match=message):
        standing_of(longer, split)
    with pytest.raises(ConfigError, match=r"runtime\.seed 0, now 1"):
        standing_of(replace(run, config=run.config.override({"runtime.seed": 1})), split)
    with pytest.raises(
        ConfigError, match="another configuration: the split of the people; use another --output_dir"
    ):
        standing_of(run, {"a": "test", "b": "train"})


def test_overwrite_trains_everything_anew(planned, monkeypatch):
    calls = training(monkeypatch)
    made(planned[0], {})
    (planned[0].folder / ablation_runs.RECORD_NAME).write_text("{}")
    assert train_runs(planned, [])
    assert [call[2:] for call in calls] == [(None, True)] * 4


def test_a_stop_leaves_the_rest_for_the_next_time(planned, monkeypatch):
    calls = training(monkeypatch, finished=False)
    assert not train_runs(planned, ["new"] * 4)
    assert calls == [("sa", 0, "auto", False)]
    assert not (planned[0].folder / ablation_runs.RECORD_NAME).exists()


def test_a_whole_ablation_and_the_same_again(tiny_faces, tmp_path, capsys, caplog, monkeypatch):
    out, faces = tmp_path / "out", shutil.copytree(tiny_faces, tmp_path / "faces")
    given = ["--data_dir", faces, "--output_dir", out, "--branches", "sa", "sa+glca", "--seeds", "2"]
    assert ablate(*given) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"ablation: {out / 'ablation.md'}"
    assert (out / "ablation.md").read_text("utf-8") in printed
    told = json.loads((out / "ablation.json").read_text("utf-8"))
    assert [each["variant"] for each in told["variants"]] == ["sa", "sa+glca"]
    for each in told["variants"]:
        for run in each["runs"]:
            folder = out / run["folder"]
            report = json.loads((folder / "evaluation" / "evaluation_report.json").read_text())
            assert run["model_sha256"] == report["model"]["sha256"]
            assert report["model"]["branches"] == each["branches"]
            for section in ("twin", "unrelated"):
                for figure in ("eer", "roc_auc"):
                    assert run["sections"][section][figure] == report[section][figure]
        values = [run["sections"]["unrelated"]["eer"] for run in each["runs"]]
        mean = each["sections"]["unrelated"]["eer"]["mean"]
        assert mean == pytest.approx(sum(values) / 2)
    assert told["intervals"]["refusal"] == "only 2 families; an interval needs 5 or more"
    assert "No intervals: only 2 families" in printed
    whole_plots(out, "ablation_det")
    before = {
        path: path.read_bytes() for path in (*out.rglob("*.pth"), out / "ablation.json", out / "ablation.tex")
    }

    monkeypatch.setattr("twin_dcal.training.run.train", None)  # would fail if called
    assert ablate(*given) == 0
    assert before == {path: path.read_bytes() for path in before}
    given[-1] = "1"
    assert ablate(*given) == 0  # fewer seeds: still nothing to train
    assert re.search(r"\| twin \| SA \| [\d.]+ ± – \|", capsys.readouterr().out)
    one_error(
        capsys,
        ablate(*given, "--training.learning_rate", "0.5"),
        "another configuration: training.learning_rate",
    )
    assert "images are not those" not in caplog.text
    (faces / "train" / "0a" / "0.png").unlink()
    assert ablate(*given) == 0
    assert (
        "sa/seed0/last.pth: the images are not those it was trained with. training people: '0a' (6 im"
        in caplog.text
    )


def test_a_stopped_ablation_exits_with_130(tiny_faces, tmp_path, capsys, monkeypatch):
    training(monkeypatch, finished=False)
    assert ablate("--data_dir", tiny_faces, "--output_dir", tmp_path / "out") == 130
    assert "the same command goes on" in capsys.readouterr().out


def test_a_set_without_splits_is_split_once_by_runtime_seed(tiny_faces, tmp_path, monkeypatch):
    """Each run has its own seed, none its own split."""
    training(monkeypatch, finished=False)
    people = tiny_faces / "train"
    splits = []
    for number, seed in enumerate((3, 3, 4)):
        out = tmp_path / str(number)
        assert ablate("--data_dir", people, "--output_dir", out, "--runtime.seed", seed, "--data.val_fraction", "0",
                      "--data.test_fraction", "0.5") == 130  # fmt: skip
        splits.append(json.loads((out / "split.json").read_text()))
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


# Statistics


@pytest.mark.parametrize("section", ["twin", "unrelated", "all"])
@pytest.mark.parametrize("figure", ["eer", "roc_auc"])
def test_with_one_seed_it_is_the_paired_jackknife(section, figure):
    comparisons, vectors = faces(7, images_each=3)
    a, b = (pair_source(*noisy(comparisons, vectors, noise, seed)) for noise, seed in ((0.4, 0), (0.7, 1)))
    wanted = paired_intervals(a, b).differences[section][figure]
    found = mean_difference([jackknife(a)], [jackknife(b)], (section, figure))
    assert found.by_seed == (wanted.difference,)
    assert (found.difference, found.low, found.high, found.p_value) == (
        wanted.difference, wanted.low, wanted.high, wanted.p_value,
    )  # fmt: skip


def repeated_auc(pairs, kinds, weights):
    """AUC of the pairs of families that weigh 1, by a loop over genuine pairs."""
    genuine = [
        (score, weights[i] * (weights[j] if i != j else 1))
        for i, j, score, kind in pairs
        if kind == "genuine"
    ]
    against = [(s, weights[i] * (weights[j] if i != j else 1)) for i, j, s, kind in pairs if kind in kinds]
    scores, heavy = (np.array(each) for each in zip(*against, strict=True))
    won = sum(
        weight * (heavy * ((score > scores) + 0.5 * (score == scores))).sum() for score, weight in genuine
    )
    return won / (sum(weight for _, weight in genuine) * heavy.sum())


@pytest.mark.parametrize(("section", "kinds"), [("twin", ("twin",)), ("unrelated", ("unrelated",))])
def test_the_interval_is_of_the_mean_over_seeds_with_the_same_families(section, kinds):
    """A second way: leave a family out of every run, average, spread."""
    comparisons, vectors = faces(6, images_each=2)
    family = np.unique(comparisons.families, return_inverse=True)[1]
    runs = [
        [noisy(comparisons, vectors, noise, seed) for seed in seeds]
        for noise, seeds in ((0.8, (5, 6)), (0.3, (7, 8)))
    ]
    weights = 1 - np.eye(6)
    pairs = [
        [[(family[i], family[j], s, k) for i, j, s, k in all_listed(*run)] for run in side] for side in runs
    ]
    aucs = np.array(
        [[[repeated_auc(run, kinds, each) for each in weights] for run in side] for side in pairs]
    )
    without = (aucs[0] - aucs[1]).mean(axis=0)
    exact = np.array([[repeated_auc(run, kinds, np.ones(6)) for run in side] for side in pairs])
    by_seed = exact[0] - exact[1]

    ours, theirs = ([jackknife(pair_source(*run)) for run in side] for side in runs)
    found = mean_difference(ours, theirs, (section, "roc_auc"), level=0.9)
    np.testing.assert_allclose(found.by_seed, by_seed, rtol=1e-9)
    of = confidence.spread(without, 6)
    reach = confidence.t_quantile(0.9, of.freedom) * of.error
    assert found.difference == pytest.approx(by_seed.mean())
    assert (found.low, found.high) == pytest.approx(
        (by_seed.mean() - reach, by_seed.mean() + reach), rel=1e-5
    )
    p_value = confidence.two_sided_p(by_seed.mean() / of.error, of.freedom)
    assert found.p_value == pytest.approx(p_value, rel=1e-4)


def test_the_summary_holds_means_deviations_and_differences(summary):
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["seeds"] == [0, 1]
    assert summary["intervals"]["num_families"] == 8
    means = {}
    for told in summary["variants"]:
        values = [run["sections"]["twin"]["eer"] for run in told["runs"]]
        means[told["variant"]] = told["sections"]["twin"]["eer"]["mean"]
        assert means[told["variant"]] == pytest.approx(sum(values) / 2)
        assert told["sections"]["twin"]["eer"]["sd"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        assert "intervals" not in told["runs"][0]["sections"]["twin"]
    (difference,) = summary["differences"]
    assert (difference["variant"], difference["against"]) == ("sa+glca", "sa")
    told = difference["sections"]["twin"]["eer"]
    assert told["difference"] == pytest.approx(means["sa+glca"] - means["sa"])
    assert told["difference"] > 0 > difference["sections"]["twin"]["roc_auc"]["difference"]
    assert told["low"] < told["difference"] < told["high"]
    assert told["difference"] == pytest.approx(sum(told["by_seed"]) / 2)


def test_the_order_of_a_runs_images_changes_nothing():
    comparisons, vectors = faces(8, images_each=3)
    first = scored_run(SA, 0, comparisons, vectors)
    told = [
        summarize([first, scored_run(GLCA, 0, *noisy(comparisons, vectors, 0.9, 2, shuffle=shuffle))], EFFORT)
        for shuffle in (False, True)
    ]
    plain, shuffled = (each["differences"][0]["sections"]["twin"]["roc_auc"] for each in told)
    for key in ("difference", "low", "high", "p_value"):
        assert plain[key] == pytest.approx(shuffled[key], abs=1e-6)


def test_too_few_families_of_twins_have_no_interval_and_the_table_says_why():
    """8 families, 3 of them of twins: an interval against unrelated people only."""
    comparisons, vectors = faces(8, images_each=3)
    kept = np.flatnonzero(
        np.isin(comparisons.people, [f"F0{n}a" for n in range(8)] + ["F00b", "F01b", "F02b"])
    )
    names = [comparisons.names[row] for row in kept]
    comparisons = Comparisons(
        "few twins", names, comparisons.people[kept], comparisons.families[kept], None, {}
    )
    runs = [
        scored_run(variant, 0, *noisy(comparisons, vectors[kept], 0.9, seed))
        for seed, variant in enumerate((SA, GLCA))
    ]
    told = summarize(runs, EFFORT)
    sections = told["differences"][0]["sections"]
    assert sections["twin"]["eer"]["low"] is sections["twin"]["eer"]["p_value"] is None
    assert sections["unrelated"]["eer"]["low"] < sections["unrelated"]["eer"]["high"]
    assert markdown(told).endswith("Without an interval: fewer than 5 families have such pairs.\n")


def test_runs_on_other_pairs_are_refused():
    comparisons, vectors = faces(8, images_each=3)
    with pytest.raises(MetricError, match="images of sa 0 missing"):
        summarize(
            [scored_run(SA, 0, comparisons, vectors), scored_run(GLCA, 0, *faces(7, images_each=3))], EFFORT
        )


# Tables


def test_the_markdown_table_has_a_row_for_each_variant_and_kind_of_impostor(summary):
    lines = markdown(summary).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 2 * 2
    assert {line.count("|") for line in table} == {len(HEAD) + 1}
    twin = summary["variants"][1]["sections"]["twin"]
    found = summary["differences"][0]["sections"]["twin"]["eer"]
    mean, sd = 100 * twin["eer"]["mean"], 100 * twin["eer"]["sd"]
    wanted = f"| twin | SA+GLCA | {mean:.2f} ± {sd:.2f} | +{100 * found['difference']:.2f} ["
    assert table[3].startswith(wanted)
    ends = f"[{100 * found['low']:+.2f}, {100 * found['high']:+.2f}]".replace("-", "−")
    assert ends in table[3]
    assert table[2].startswith("| twin | SA | ")
    assert table[2].count("| – | – |") == 2
    assert lines[-1].startswith(
        "Test split: 48 genuine, 72 twin and 1,008 unrelated pairs; mean ± standard deviation"
    )
    assert "jackknife over 8 families" in lines[-1]
    assert "over seeds 0, 1." in lines[-1]
    assert "Without an interval" not in lines[-1]


def test_the_latex_table_says_the_same_and_needs_booktabs_only(summary):
    text = latex(summary)
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(rows) == 1 + 4
    assert {line.count("&") for line in rows} == {len(HEAD) - 2}
    assert text.count(r"\multicolumn{7}{l}{\emph{") == 2
    assert body.index("Twin impostors") < body.index("Unrelated impostors")
    assert text.count("{") == text.count("}")
    assert text.isascii()
    assert not re.search(r"(?<!\\)%", text)
    assert (
        set(re.findall(r"\\begin{(\w+)}", text))
        == {"table", "tabular"}
        == set(re.findall(r"\\end{(\w+)}", text))
    )
    plain = [line for line in markdown(summary).splitlines() if line.startswith("|")][2:]
    for row, line in zip(rows[1:], plain, strict=True):
        wanted = " & ".join(escaped(cell.strip()) for cell in line.strip("|").split("|")[1:])
        assert row == wanted + r" \\"


def test_latex_specials_are_escaped():
    assert escaped("50% of a_b & {c} #1 $x ~^\\ −1 ± Δ <0.001 –") == (
        r"50\% of a\_b \& \{c\} \#1 \$x \textasciitilde{}\textasciicircum{}\textbackslash{} $-$1 $\pm$ $\Delta$ "
        "$<$0.001 --"
    )


@pytest.fixture
def cells():
    def of(**difference):
        section = {"num_genuine": 5, "num_impostors": 7}
        section |= {"eer": {"mean": 0.1, "sd": None}, "roc_auc": {"mean": 0.9, "sd": None}}
        each = {"difference": 0.0, "low": None, "high": None, "p_value": None, **difference}
        told = {"variant": "sa", "sections": {"all": section}}
        summary = {"seeds": [0], "variants": [told, {**told, "variant": "sa+pwca"}],
                   "differences": [{"variant": "sa+pwca", "against": "sa",
                                    "sections": {"all": {"eer": each, "roc_auc": each}}}],
                   "intervals": {"refusal": "none today", "level": 0.95}}  # fmt: skip
        lines = markdown(summary).splitlines()
        return [cell.strip() for cell in lines[3].strip("|").split("|")], lines[-1]

    return of


def test_cells_where_something_is_missing_or_small(cells):
    row, words = cells(difference=-0.00001)
    assert row == ["all", "SA+PWCA", "10.00 ± –", "0.00", "–", "0.9000 ± –", "0.0000", "–"]
    assert "5 genuine and 7 impostor pairs; one seed (0), hence no standard deviation." in words
    assert (
        "Differences are to SA; negative ΔEER and positive ΔAUC are better. No intervals: none today."
        in words
    )
    row, _ = cells(difference=-0.02, low=-0.03, high=0.01, p_value=0.00099)
    assert row[3:5] == ["−2.00 [−3.00, +1.00]", "<0.001"]
    assert cells(difference=1, low=0.5, high=1, p_value=0.001)[0][4] == "0.001"


# Curves


def test_files_of_an_ablation_are_whole_and_the_same_twice(summary, tmp_path, drawn_figures):
    for folder in (tmp_path / "a", tmp_path / "b"):
        write_ablation(summary, folder)
        whole_plots(folder, "ablation_det")
    assert (tmp_path / "a/ablation.md").read_text("utf-8") == markdown(summary)
    assert (tmp_path / "a/ablation.tex").read_text("utf-8") == latex(summary)
    assert json.loads((tmp_path / "a/ablation.json").read_text("utf-8")) == summary
    for ending in SIGNATURES:
        one, two = (tmp_path / name / "visualizations" / f"ablation_det{ending}" for name in "ab")
        assert one.read_bytes() == two.read_bytes()


def test_the_mean_curve_is_the_mean_at_each_rate():
    runs = [
        {"curve": {"fmr": [0.0, 0.1, 0.5, 1.0], "fnmr": [1.0, 0.6, 0.2, 0.0]}},
        {"curve": {"fmr": [0.0, 0.1, 0.3, 1.0], "fnmr": [1.0, 0.4, 0.1, 0.0]}},
    ]
    fmr, fnmr = mean_curve(runs, 0.05, 0.5)
    assert fmr.tolist() == [0.05, 0.1, 0.3, 0.5]
    rest = 0.1 - 0.1 * 0.2 / 0.7
    np.testing.assert_allclose(fnmr, [(0.8 + 0.7) / 2, 0.5, (0.4 + 0.1) / 2, (0.2 + rest) / 2])
    one = mean_curve(runs[:1], 0.1, 0.5)
    assert [axis.tolist() for axis in one] == [[0.1, 0.5], [0.6, 0.2]]


def test_each_system_has_its_look_and_its_name_whatever_it_is(tmp_path, drawn_figures):
    comparisons, vectors = faces(6, images_each=2)
    runs = [
        Run(name, Scored(comparisons, pair_source(*noisy(comparisons, vectors, 0.5, seed)), None))
        for seed, name in enumerate(("_private", "$x_1$", "a/very/" * 20, "d", "e", "f", "g", "h", "i"))
    ]
    systems = systems_of(compare(runs, EvaluationOptions(num_replicates=100)))
    figure = comparison_figure(systems)
    assert len(figure.axes) == 2
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names[:2] == ["_private", "$x_1$"]
    assert len(names[2]) == 64
    assert not any(text.get_parse_math() for text in legend.get_texts())
    assert len(names) == 9
    looks = {(line.get_color(), str(line.get_linestyle()), line._dash_pattern[1] and tuple(line._dash_pattern[1]))
             for line in legend.get_lines()}  # fmt: skip
    assert len(looks) == 9
    assert len(write_comparison_plot(systems, tmp_path)) == 3
    whole_plots(tmp_path, "comparison_det")
    with pytest.raises(ConfigError, match=r"plot format 'gif' is unknown\. Use any of png, pdf, svg"):
        write_comparison_plot(systems, tmp_path, formats=["png", "gif"])


def test_panels_are_those_that_exist_and_curves_are_the_figures_own():
    comparisons, vectors = faces(12, people_each=1, noise=1.5)
    run = Run("a", Scored(comparisons, pair_source(comparisons, vectors), None))
    sections = compare([run], EvaluationOptions(num_replicates=0))["runs"][0]["sections"]
    (axes,) = comparison_figure([Overlaid("a", (sections,))]).axes
    assert axes.get_title(loc="left") == "unrelated impostors: FNMR, %"
    at_eer = NormalDist().inv_cdf(sections["unrelated"]["eer"])
    curve = np.concatenate([line.get_xydata() for line in axes.lines[1:]])
    assert np.interp(at_eer, *curve.T) == pytest.approx(at_eer, abs=0.05)  # it meets the diagonal there
    assert (np.diff(curve[:, 0]) >= 0).all()
    assert (np.diff(curve[:, 1]) <= 0).all()
    joint = NormalDist().inv_cdf(30 / sections["unrelated"]["num_impostors"])
    thin, firm = axes.lines[1:]
    assert thin.get_xdata()[-1] == firm.get_xdata()[0] == pytest.approx(joint)
    assert thin.get_linewidth() < firm.get_linewidth()


def test_compare_visualize_writes_the_curves(tmp_path, capsys, drawn_figures):
    from twin_dcal.cli import evaluate
    from twin_dcal.evaluation.score_files import write_scores

    comparisons, vectors = faces(6, images_each=2)
    for seed in (0, 1):
        write_scores(
            tmp_path / f"{seed}.csv", pair_source(*noisy(comparisons, vectors, 0.5, seed)), comparisons
        )
    given = ["--compare", str(tmp_path / "0.csv"), str(tmp_path / "1.csv"), "--num_replicates", "100"]
    assert evaluate.main([*given, "--output_dir", str(tmp_path / "plain")]) == 0
    assert not (tmp_path / "plain" / "visualizations").exists()
    capsys.readouterr()
    assert evaluate.main([*given, "--visualize", "--output_dir", str(tmp_path / "drawn")]) == 0
    whole_plots(tmp_path / "drawn", "comparison_det")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("curves: ")
    assert lines[-1].startswith("comparison: ")


def test_a_plan_refuses_what_it_cannot_do(tmp_path):
    config = TwinVerificationConfig.preset("debug")
    with pytest.raises(ConfigError, match="--seeds 0"):
        Plan(config, (SA,), 0, tmp_path)
