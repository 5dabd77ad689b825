"""What a run says: one table of epochs, why a model becomes the best, the command that comes next."""

import shlex

import pytest

from twin_dcal.cli import evaluate_options, train
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.training.console import EpochTable, best_note, format_figures, validated_kinds

TRAINED = {
    "train/loss": 4.0561,
    "train/sa": 2.6912,
    "train/images_per_second": 1183.74,
    "train/waiting_share": 0.0457,
}
VALIDATED = {
    "val/twin_eer": 0.4213,
    "val/twin_auc": 0.598,
    "val/unrelated_eer": 0.01574,
    "val/unrelated_auc": 0.9986,
}


def test_lines_are_columns_below_a_header_with_three_digits():
    table = EpochTable(12, ("sa",), ("twin", "unrelated"))
    header = table.header()
    first = table.line(1, TRAINED, 23.4)
    second = table.line(12, TRAINED | VALIDATED, 0, "best model: …")
    assert header.split() == [
        "epoch",
        "loss",
        "sa",
        "images/s",
        "waiting",
        "twin",
        "EER",
        "AUC",
        "unrelated",
        "EER",
        "AUC",
        "left",
    ]
    assert first.split() == ["epoch", "1/12", "4.06", "2.69", "1,184", "4.57", "%", "23", "s"]
    assert second.split() == [
        "epoch", "12/12", "4.06", "2.69", "1,184", "4.57", "%", "42.1", "%", "0.598", "1.57", "%", "0.999", "0", "s",
        "best", "model:", "…",
    ]  # fmt: skip
    for title, told in (
        ("loss", "4.06"),
        ("images/s", "1,184"),
        ("waiting", "4.57 %"),
        ("twin EER", "42.1 %"),
        ("left", "0 s"),
    ):
        assert header.index(title) + len(title) == second.index(told) + len(told)
    assert first.index("23 s") + 4 == len(header)


def test_what_is_rare_is_told_behind_the_row():
    line = EpochTable(2, (), ()).line(
        1, {"train/skipped_batches": 3.0, "train/learning_rate": 1e-3, "train/w_sa": 0.1}
    )
    assert line.endswith("batches left out 3")
    assert "0.1" not in line


@pytest.mark.parametrize(
    ("kinds", "now", "before", "told"),
    [
        (("twin",), 0.4213, None, "best model: twin EER 42.1 %, the first"),
        (("twin",), 0.4213, 0.4397, "best model: twin EER 42.1 % after 44.0 %"),
        (
            ("twin", "unrelated"),
            0.3,
            0.3,
            "best model: mean of twin and unrelated EER still 30.0 %, with a higher AUC",
        ),
    ],
)
def test_why_a_model_becomes_the_best(kinds, now, before, told):
    assert best_note(kinds, now, before) == told


def test_figures_in_words():
    figures = {name.partition("/")[2]: value for name, value in VALIDATED.items()} | {
        "all_eer": 0.2,
        "all_auc": 0.9,
    }
    assert format_figures(figures) == "twin EER 42.1 %, AUC 0.598 · unrelated EER 1.57 %, AUC 0.999"
    assert format_figures({"all_eer": 0.2, "all_auc": 1.0}) == "all EER 20.0 %, AUC 1.00"
    assert format_figures({}) == ""


def test_a_run_tells_its_table_and_what_to_type_next(tiny_faces, tmp_path, caplog, capsys):
    given = [
        "--config",
        "debug",
        "--model.backbone",
        "test_vit",
        "--data.image_size",
        "32",
        "--training.num_epochs",
        "2",
    ]
    given += [
        "--training.images_per_person",
        "2",
        "--runtime.num_workers",
        "0",
        "--data_dir",
        str(tiny_faces),
    ]
    with caplog.at_level("INFO"):
        assert train.main([*given, "--output_dir", str(tmp_path / "a run")]) == 0
    lines = [record.getMessage() for record in caplog.records]
    [header] = [number for number, line in enumerate(lines) if line.startswith("epoch  ")]
    assert lines[header + 1].startswith("epoch 1/2 ")
    assert ", the first" in lines[header + 1]
    assert lines[header].index("twin EER") > lines[header].index("waiting")
    *_, best, told, following = capsys.readouterr().out.splitlines()
    assert best == f"best model: {tmp_path}/a run/best_model.pth"
    assert told.startswith("  on validation: twin EER ")
    assert following.startswith("next: dcal-evaluate --model ")
    options = evaluate_options.parser().parse_options(shlex.split(following.removeprefix("next: "))[1:])
    assert (options.model, options.data_dir) == (f"{tmp_path}/a run/best_model.pth", str(tiny_faces))


def test_the_next_command_names_the_files_of_a_data_set(tmp_path):
    config = TwinVerificationConfig().override({"data.dataset_info": "d.json", "data.twin_pairs": "t.csv"})
    told = train._next_command(config, tmp_path / "best_model.pth")
    assert "--dataset_info d.json --twin_pairs t.csv --visualize" in told


class Val:
    def __init__(self, num_images, has_twins, num_families):
        self.num_images, self.has_twins, self.num_families = num_images, has_twins, num_families


def test_columns_are_of_the_impostors_there_are():
    assert validated_kinds(Val(0, False, 0)) == ()
    assert validated_kinds(Val(8, True, 2)) == ("twin", "unrelated")
    assert validated_kinds(Val(8, False, 4)) == ("all",)
    assert validated_kinds(Val(8, True, 1)) == ("twin",)
