"""A model of drawn faces says on terminal, in JSON, in the report and over the API that it knows no real face."""

import itertools
import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tiny import tiny_values

from twin_dcal.cli import ablate, evaluate, export, extract, lookalikes, prepare, verify
from twin_dcal.cli import train as train_command
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.explain import figure
from twin_dcal.model_file.provenance import model_warnings
from twin_dcal.training.run import train
from twin_dcal.verify import picture

TOLD = "the model was trained on drawn faces (SynTwins) alone and knows no real face"
UNLIKE = "unlike the pictures the model was trained on"


@pytest.fixture(scope="module")
def drawn(tiny_faces, tmp_path_factory):
    """A data set that says it was drawn, and a model of it."""
    root = tmp_path_factory.mktemp("drawn")
    shutil.copytree(tiny_faces, root / "data")
    (root / "data/synth.json").write_text(json.dumps({"families": 8, "difficulty": "easy"}))
    values = tiny_values(root / "data", root / "run")
    values["training"]["num_epochs"] = 1
    train(TwinVerificationConfig.from_dict(values))
    return root


@pytest.fixture(scope="module")
def other(tiny_faces, tmp_path_factory):
    """The same people's pictures, as no training picture looks."""
    root = tmp_path_factory.mktemp("other")
    shutil.copytree(tiny_faces, root / "data")
    for path in root.glob("data/*/*/*.png"):
        smooth = Image.open(path).resize((4, 4)).resize((32, 32), Image.Resampling.BICUBIC)
        Image.fromarray(255 - np.asarray(smooth) // 2).save(path)
    return root / "data"


def test_terminal_and_json(drawn, tiny_faces, other, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    one = [*sorted(tiny_faces.glob("train/*/*.png"))[:1], *sorted(other.glob("test/*/*.png"))[:1]]
    given = ["--model", str(drawn / "run"), "--align", "never", "--img1", str(one[0]), "--img2", str(one[1])]
    verify.main(given)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert any(TOLD in line for line in told)
    assert any(line.startswith("warning     second picture: ") and UNLIKE in line for line in told)
    assert not any(line.startswith("warning     first picture: ") for line in told)
    verify.main([*given, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert any(TOLD in text for text in told["warnings"])
    assert [judged["beyond"] for judged in told["familiarity"]] == [False, True]


def evaluated(model, data, folder):
    given = ["--model", str(model), "--test_data", str(data), "--output_dir", str(folder), "--visualize"]
    assert evaluate.main([*given, "--num_workers", "0", "--num_replicates", "0"]) == 0
    return json.loads((folder / "evaluation_report.json").read_text()), (folder / "report.html").read_text()


def test_report_and_its_json(drawn, other, tmp_path, capsys):
    figures, page = evaluated(drawn / "run/best_model.pth", drawn / "data", tmp_path / "own")
    assert any(TOLD in text for text in figures["warnings"])
    assert TOLD in page
    assert TOLD in capsys.readouterr().out
    assert not any("are unlike those the model was trained on" in text for text in figures["warnings"])
    figures, page = evaluated(drawn / "run/best_model.pth", other, tmp_path / "other")
    (text,) = [text for text in figures["warnings"] if "are unlike those the model was trained on" in text]
    assert text.startswith("100 % of 24 pictures looked at")
    assert "are unlike those the model was trained on" in page


def test_prompt_and_folder(drawn, tiny_faces, tmp_path, monkeypatch, capsys):
    """Before anything is decided at the prompt, and below a folder's table."""
    monkeypatch.chdir(tmp_path)
    given = ["--model", str(drawn / "run"), "--align", "never"]
    monkeypatch.setattr("builtins.input", lambda _: "quit")
    verify.main([*given, "--interactive"])
    assert f"warning: {TOLD}" in capsys.readouterr().out
    verify.main([*given, "--demo_folder", str(tiny_faces / "test/6a")])
    assert f"warning     {TOLD}" in capsys.readouterr().out


def test_features_and_comparisons(drawn, tmp_path, monkeypatch, capsys):
    """Files of vectors say it as the model does, whichever command wrote them and however often."""
    monkeypatch.chdir(tmp_path)
    model, data = str(drawn / "run/best_model.pth"), str(drawn / "data")
    assert (
        extract.main(["--model", model, "--images_dir", data, "--align", "never", "--num_workers", "0"]) == 0
    )
    assert f"warning: {TOLD}" in capsys.readouterr().err
    few = ["--num_replicates", "0"]
    alone = ["--model", model, "--test_data", data, "--output_dir", "one", "--num_workers", "0"]
    assert evaluate.main([*alone, *few]) == 0
    for number, (given, more) in enumerate(
        ((tmp_path / "features.npz", ["--data_dir", data]), (tmp_path / "one/embeddings.npz", []),
         (tmp_path / "1/embeddings.npz", []))
    ):  # fmt: skip
        capsys.readouterr()
        assert evaluate.main(["--embeddings", str(given), "--output_dir", str(number), *more, *few]) == 0
        assert TOLD in " ".join(capsys.readouterr().out.split()), given
        figures = json.loads((tmp_path / f"{number}/evaluation_report.json").read_text())
        assert any(TOLD in text for text in figures["warnings"])
    capsys.readouterr()
    assert evaluate.main(["--compare", "one", "2", "--output_dir", "both", *few]) == 0
    told = json.loads((tmp_path / "both/comparison.json").read_text())
    assert all(any(TOLD in text for text in run["warnings"]) for run in told["runs"])
    for text in (capsys.readouterr().out, (tmp_path / "both/comparison.md").read_text()):
        assert f"Warning: one: {TOLD}" in text
        assert f"Warning: 2: {TOLD}" in text


def test_the_picture_says_it(drawn, tiny_faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts, pictures = [], []
    draw, made = ImageDraw.ImageDraw.text, picture.pair_picture

    def written(self, place, text, fill, font, anchor):
        texts.append((text, self.textbbox(place, text, font=font, anchor=anchor)))
        draw(self, place, text, fill, font, anchor)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", written)
    monkeypatch.setattr(picture, "pair_picture", lambda *given: pictures.append(made(*given)) or pictures[-1])
    one = str(sorted(tiny_faces.glob("test/*/*.png"))[0])
    verify.main(["--model", str(drawn / "run"), "--align", "never", "--img1", one, "--img2", one])
    (whole,) = pictures
    lines = [(text, box) for text, box in texts if box[1] > 860]  # below the scale
    assert TOLD in " ".join(text for text, _ in lines)
    assert "more)" not in lines[-1][0], "all warnings are named"
    for _, (left, top, right, bottom) in texts:
        assert 0 <= left < right < whole.width
        assert 0 <= top < bottom < whole.height
    assert all(above[3] <= below[1] for (_, above), (_, below) in itertools.pairwise(lines))


def test_the_picture_of_where_the_model_looked_says_it(drawn, tiny_faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = []
    made = figure.pair_figure
    monkeypatch.setattr(
        figure, "pair_figure", lambda *given, **more: figures.append(made(*given, **more)) or figures[-1]
    )
    one = str(sorted(tiny_faces.glob("test/*/*.png"))[0])
    verify.main(
        ["--model", str(drawn / "run"), "--align", "never", "--img1", one, "--img2", one, "--show_attention"]
    )
    (drawing,) = figures
    assert TOLD in " ".join(drawing.get_suptitle().split())
    drawing.draw_without_rendering()
    assert drawing._suptitle.get_window_extent().x1 < drawing.bbox.x1
    assert drawing._suptitle.get_window_extent().x0 > 0


def test_training_tuning_and_exporting_end_with_it(drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    values = json.loads((drawn / "run/config.json").read_text())
    values["runtime"]["output_dir"] = str(tmp_path / "run")
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert train_command.main(["--config", "config.json"]) == 0
    assert capsys.readouterr().err.count(f"warning: {TOLD}") == 1
    tuned = ["--optimize_threshold", "--val_data", str(drawn / "data/val"), "--num_workers", "0"]
    assert evaluate.main(["--model", "run/best_model.pth", *tuned]) == 0
    assert capsys.readouterr().out.count(f"Warning: {TOLD}") == 1
    pytest.importorskip("onnxscript", reason="needs the extra 'onnx'")
    assert export.main(["--model", "run/best_model.pth"]) == 0
    assert capsys.readouterr().err.count(f"warning: {TOLD}") == 1


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"model": {"trained_on": {"faces": "drawn"}}}, 1), ({"model": {"trained_on": {"faces": "photographs"}}}, 0),
        ({"model": {"trained_on": [1]}}, 0), ({"model": "x"}, 0), ({}, 0),
    ],
)  # fmt: skip
def test_what_embeddings_say_of_their_model(metadata, told):
    assert len(model_warnings(metadata.get("model"))) == told


def test_what_uses_a_model_to_prepare_data_says_it(drawn, tmp_path, monkeypatch, capsys):
    """Once each: dcal-lookalikes of its features, dcal-prepare with it, dcal-ablate of such models."""
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("rustworkx", reason="needs the extra 'lookalikes'")
    from drawn_scenes import scene

    monkeypatch.chdir(tmp_path)
    model, data = str(drawn / "run/best_model.pth"), str(drawn / "data")
    extract.main(["--model", model, "--images_dir", f"{data}/test", "--align", "never", "--num_workers", "0"])
    capsys.readouterr()
    wide = ["--min_cosine", "-1", "--max_cosine", "1"]
    given = ["--embeddings", "features.npz", "--data_dir", data, "--split", "test", "--output", "alike"]
    assert lookalikes.main([*given, *wide]) == 0
    assert capsys.readouterr().err.count(f"warning: {TOLD}") == 1
    assert f"<li>{TOLD}" in (tmp_path / "alike/lookalikes.html").read_text()
    for number in range(2):
        (tmp_path / f"photos/p{number}").mkdir(parents=True)
        Image.fromarray(scene(number, 0)[0]).save(tmp_path / f"photos/p{number}/0.png")
    assert (
        prepare.main(["photos", "--output", "set", "--model", model, "--workers", "1", "--device", "cpu"])
        == 0
    )
    assert capsys.readouterr().err.count(f"warning: {TOLD}") == 1


def test_an_ablation_says_it_once(drawn, tmp_path, capsys):
    tiny = [
        "--config", "debug", "--model.backbone", "test_vit", "--model.pretrained", "false", "--data.image_size", "32",
        "--training.num_epochs", "1", "--training.images_per_person", "2", "--training.warmup_epochs=0",
        "--runtime.num_workers", "0", "--runtime.device", "cpu", "--num_replicates", "0", "--seeds", "1",
    ]  # fmt: skip
    given = [
        "--data_dir",
        str(drawn / "data"),
        "--branches",
        "sa",
        "sa+glca",
        "--output_dir",
        str(tmp_path / "out"),
    ]
    assert ablate.main([*tiny, *given]) == 0
    told = capsys.readouterr()
    assert (told.out + told.err).count(TOLD) == 1
    assert TOLD in (tmp_path / "out/ablation.md").read_text()
    (warning,) = json.loads((tmp_path / "out/ablation.json").read_text())["warnings"]
    assert warning.startswith(TOLD)
