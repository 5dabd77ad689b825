"""Everything made from faces is its owner's alone, files and folders, whatever the umask."""

import os
import stat

import pytest

from twin_dcal.cli import ablate, evaluate, extract, verify
from twin_dcal.cli import train as train_command
from twin_dcal.files import make_folder, make_private, replacing
from twin_dcal.training.run import train

TINY = [
    "--config", "debug", "--model.backbone", "test_vit", "--data.image_size", "32", "--training.num_epochs", "1",
    "--training.images_per_person", "2", "--training.warmup_epochs=0", "--runtime.num_workers", "0",
]  # fmt: skip


@pytest.fixture(autouse=True)
def generous_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder):
    return [
        f"{stat.filemode(path.stat().st_mode)} {path.relative_to(folder)}"
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]


def test_what_the_commands_write(tiny_faces, tmp_path, capsys, drawn_curves):
    data = ["--data_dir", str(tiny_faces)]
    run, quiet = tmp_path / "new" / "run", ["--num_workers", "0"]
    assert train_command.main([*TINY, *data, "--output_dir", str(run)]) == 0
    model = ["--model", str(run / "best_model.pth")]
    looks = ["--visualize", "--save_examples", "--save_scores", str(tmp_path / "apart" / "scores.csv")]
    assert evaluate.main([*model, *data, *quiet, *looks, "--output_dir", str(tmp_path / "evaluation")]) == 0
    both = [str(tmp_path / "evaluation"), str(tmp_path / "evaluation")]
    assert (
        evaluate.main(["--compare", *both, *data, "--visualize", "--output_dir", str(tmp_path / "both")]) == 0
    )
    more = ["--similarity_matrix", "--top_k_similar", "2", "--visualize_features", "--save_individual"]
    images = ["--images_dir", str(tiny_faces / "test"), "--output", str(tmp_path / "features" / "f.npz")]
    crops = ["--align", "never"]  # drawn patterns have no face
    assert extract.main([*model, *images, *quiet, *more, *crops]) == 0
    pair = [str(path) for path in sorted((tiny_faces / "test").glob("*/*.png"))[:2]]
    shown = ["--save_results", "--output_dir", str(tmp_path / "demo")]
    assert verify.main([*model, "--img1", pair[0], "--img2", pair[1], *shown, *crops]) in (0, 1)
    capsys.readouterr()
    assert len(list(tmp_path.rglob("*"))) > 40
    assert open_to_others(tmp_path) == []


@pytest.mark.slow
def test_what_an_ablation_writes(tiny_faces, tmp_path, capsys, drawn_curves):
    arguments = [*TINY, "--data_dir", str(tiny_faces), "--branches", "sa", "--seeds", "1"]
    assert ablate.main([*arguments, "--output_dir", str(tmp_path / "ablation")]) == 0
    assert list((tmp_path / "ablation").rglob("*.pth"))
    assert open_to_others(tmp_path) == []


def test_what_a_run_from_python_writes(tiny_config, tmp_path, drawn_curves):
    train(tiny_config.override({"training.num_epochs": 1}))
    assert list(tmp_path.rglob("events.*"))
    assert open_to_others(tmp_path) == []
    assert os.umask(0) == 0, "the caller's umask is as it was"


def test_a_folder_of_ones_own_keeps_its_mode_and_its_new_files_are_closed(tmp_path):
    (tmp_path / "shared").mkdir(mode=0o755)
    with replacing(tmp_path / "shared" / "a" / "file") as file:
        file.write(b"x")
    make_folder(tmp_path / "shared")
    assert open_to_others(tmp_path) == ["drwxr-xr-x shared"]


def test_what_a_library_wrote_is_closed_and_links_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("x")
    (tmp_path / "made" / "deep").mkdir(parents=True)
    (tmp_path / "made" / "deep" / "file").write_text("x")
    (tmp_path / "made" / "link").symlink_to(outside)
    (tmp_path / "made" / "dangling").symlink_to(tmp_path / "nothing")
    make_private(tmp_path / "made")
    assert open_to_others(tmp_path / "made") == []
    assert stat.S_IMODE(outside.stat().st_mode) == 0o666
