"""`dcal-prepare` from a folder to a data set: layout, reruns, copies, reviews, interruptions."""

import csv
import json
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twin_dcal.cli import prepare as command
from twin_dcal.config import DataConfig
from twin_dcal.data.manifest import load_face_data
from twin_dcal.errors import ConfigError, ManifestError
from twin_dcal.prepare import run
from twin_dcal.prepare.grouping import find_sessions
from twin_dcal.prepare.job import Job
from twin_dcal.prepare.judging import Crop, consistent, good_enough
from twin_dcal.prepare.run import prepare
from twin_dcal.prepare.settings import Limits, PrepareConfig
from twin_dcal.prepare.sources import Photo
from twin_dcal.synth.folder import are_drawn

pytestmark = pytest.mark.usefixtures("detector")
SMALL = PrepareConfig.resolved(None, {"crops.image_size": 64})


def bytes_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def different(one, other):
    """Names of files that are not the same in both folders."""
    one, other = bytes_of(one), bytes_of(other)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def size_of(path):
    with Image.open(path) as image:
        return image.size


@pytest.fixture(scope="module")
def prepared(photos_folder, tmp_path_factory, detector):
    output = tmp_path_factory.mktemp("data") / "set"
    (photos_folder / "twin_pairs_infor.json").write_text('[["p0", "p1"], ["p2", "p3"]]')
    return prepare(Job(photos_folder, output, SMALL, split=(0.5, 0.25, 0.25), seed=3))


def test_the_set_is_one_that_training_reads(prepared):
    output = prepared.job.output
    assert prepared.dropped == ()
    data = load_face_data(DataConfig(data_dir=str(output)), seed=0)
    assert len(data.train.people) + len(data.val.people) + len(data.test.people) == 6
    assert len(data.train.paths) + len(data.val.paths) + len(data.test.paths) == 18
    split_of = prepared.split.split_of
    assert split_of["p0"] == split_of["p1"]
    assert split_of["p2"] == split_of["p3"]
    assert json.loads((output / "twin_pairs_infor.json").read_text()) == [["p0", "p1"], ["p2", "p3"]]
    info = json.loads((output / "dataset_infor.json").read_text())
    assert all(path.startswith(f"{split_of[person]}/{person}/") for person in info for path in info[person])
    assert size_of(output / info["p0"][0]) == (64, 64)


def test_what_is_stored_of_each_face(prepared):
    lines = [json.loads(line) for line in (prepared.job.output / "faces.jsonl").read_text().splitlines()]
    assert len(lines) == 18
    assert {"path", "person", "photo", "source_sha256", "box", "landmarks", "quality", "session"} <= set(
        lines[0]
    )
    assert lines[0]["quality"]["eyes_px"] > 20


def test_files_are_the_owners_only_and_the_page_stands_alone(prepared):
    for path in prepared.job.output.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(prepared.job.output.stat().st_mode) == 0o700
    page = (prepared.job.output / "prepare_report.html").read_text()
    assert "Nothing was left out" in page
    assert "18 photos do not say when" in page
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_any_number_of_workers_gives_the_same_bytes(prepared, photos_folder, tmp_path):
    job = Job(photos_folder, tmp_path / "set", SMALL, split=(0.5, 0.25, 0.25), seed=3, workers=2)
    prepare(job)
    assert different(job.output, prepared.job.output) == []


def test_a_second_run_works_only_on_what_is_new(photos_folder, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    shutil.copytree(photos_folder, photos)
    (photos / "twin_pairs_infor.json").unlink(missing_ok=True)
    before = bytes_of(photos)
    job = Job(photos, tmp_path / "set", SMALL)
    prepare(job)
    first = bytes_of(job.output)
    decoded = []
    from twin_dcal.prepare import photo as module

    real = module.decode_pixels
    monkeypatch.setattr(module, "decode_pixels", lambda *given: decoded.append(1) or real(*given))
    prepare(job)
    assert decoded == []
    assert bytes_of(job.output) == first
    assert bytes_of(photos) == before
    (photos / "p0" / "0.jpg").rename(photos / "p0" / "first.jpg")  # the same bytes by another name
    shutil.rmtree(photos / "p5")
    shutil.copy(photos / "p4" / "1.jpg", tmp_path / "more.jpg")
    picture = Image.open(tmp_path / "more.jpg").crop((20, 30, 400, 520))
    (photos / "p6").mkdir()
    (photos / "p4" / "1.jpg").rename(photos / "p6" / "1.jpg")
    picture.rotate(25, Image.Resampling.BICUBIC).save(photos / "p1" / "new.jpg")
    done = prepare(Job(photos, tmp_path / "set", SMALL, conflicts="drop"))
    assert len(decoded) == 1
    info = json.loads((job.output / "dataset_infor.json").read_text())
    assert "p5" not in info
    assert "p0/first.jpg" in info["p0"]
    assert not (job.output / "p5").exists()
    assert not (job.output / "p0" / "0.jpg").exists()
    assert len(list((job.output / ".prepare" / "crops").glob("*/*.jpg"))) == len(done.path_of) + sum(
        out.crop is not None for out in done.dropped
    )
    prepare(
        Job(
            photos, tmp_path / "set", PrepareConfig.resolved(None, {"crops.image_size": 48}), conflicts="drop"
        )
    )
    assert len(decoded) == 1 + 16
    assert size_of(job.output / info["p0"][0]) == (48, 48)


def test_a_stop_at_any_moment_is_gone_on_with(prepared, photos_folder, tmp_path):
    """Killed with SIGKILL some time after the start, again and again; then finished: the bytes of one whole run."""
    arguments = [
        sys.executable, "-m", "twin_dcal.cli.prepare", photos_folder, "--output", tmp_path / "set",
        "--image_size", "64",
        "--split", "0.5", "0.25", "0.25", "--seed", "3", "--workers", "1",
    ]  # fmt: skip
    for delay in (1.0, 1.3):
        process = subprocess.Popen(list(map(str, arguments)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(delay)
        process.kill()
        process.communicate()
    journal = tmp_path / "set" / ".prepare" / "journal.jsonl"
    if journal.exists():
        with journal.open("a") as file:
            file.write('{"key": "half a li')
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "18 crops of 6 people from 18 photos" in done.stdout
    assert different(tmp_path / "set", prepared.job.output) == []


def test_ctrl_c_is_one_line(photos_folder, tmp_path):
    arguments = [sys.executable, "-m", "twin_dcal.cli.prepare", photos_folder, "--output", tmp_path / "set"]
    process = subprocess.Popen(
        list(map(str, arguments)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if (tmp_path / "set" / ".prepare" / "journal.jsonl").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with the same command" in told
    assert "Traceback" not in told


# Copies


@pytest.fixture
def photos(photos_folder, tmp_path):
    copied = tmp_path / "photos"
    for person in ("p0", "p1", "p2"):
        shutil.copytree(photos_folder / person, copied / person)
    return copied


def test_a_set_made_of_drawn_faces_says_so(photos, tmp_path):
    job = Job(photos, tmp_path / "out", SMALL)
    prepare(job)
    images = list((tmp_path / "out").rglob("*.jpg"))
    assert not are_drawn(images)
    (photos / "synth.json").write_text('{"difficulty": "easy"}')
    prepare(job)
    assert are_drawn(images)
    (photos / "synth.json").unlink()
    prepare(job)  # now of photographs
    assert not are_drawn(images)


def test_copies_of_one_person_are_kept_once(photos, tmp_path):
    shutil.copy(photos / "p0" / "1.jpg", photos / "p0" / "again.jpg")
    picture = Image.open(photos / "p1" / "2.jpg")
    picture.resize((310, 413), Image.Resampling.BICUBIC).save(photos / "p1" / "small.jpg", quality=70)
    done = prepare(Job(photos, tmp_path / "set", SMALL))
    assert {(out.name, out.reason, out.detail) for out in done.dropped} == {
        ("p0/again.jpg", "a copy", "the same file as p0/1.jpg"),
        ("p1/small.jpg", "a copy", "the same picture as p1/2.jpg"),
    }
    assert len(done.path_of) == 9


def test_a_picture_under_two_people_is_an_error_to_resolve(photos, tmp_path, capsys):
    picture = Image.open(photos / "p1" / "2.jpg")
    picture.resize((378, 504), Image.Resampling.BICUBIC).save(photos / "p2" / "odd.jpg", quality=80)
    job = Job(photos, tmp_path / "set", SMALL)
    with pytest.raises(ManifestError, match="2 photos show a picture that is also under another person"):
        prepare(job)
    assert not (job.output / "dataset_infor.json").exists()
    page = (job.output / "prepare_report.html").read_text()
    assert "Under two people: 2" in page
    assert "the same picture as p2/odd.jpg" in page
    assert (
        command.main([str(photos), "--output", str(job.output), "--image_size", "64", "--workers", "1"]) == 2
    )
    assert capsys.readouterr().err.count("\n") == 1
    done = prepare(Job(photos, tmp_path / "set", SMALL, conflicts="drop"))
    assert [out.name for out in done.dropped] == ["p1/2.jpg", "p2/odd.jpg"]
    info = json.loads((job.output / "dataset_infor.json").read_text())
    assert sum(map(len, info.values())) == 8


# Quality, people and reviews


def test_what_is_set_aside_can_be_kept_by_review(photos, tmp_path):
    tight = PrepareConfig.resolved(None, {"crops.image_size": 64, "quality.max_turn": 0.001})
    job = Job(photos, tmp_path / "set", tight, review=True)
    with pytest.raises(ManifestError, match="no usable face"):
        prepare(job)
    rows = list(csv.DictReader((job.output / "review.csv").read_text().splitlines()))
    assert len(rows) == 9
    assert rows[0]["reason"] == "below a limit"
    assert "turn" in rows[0]["detail"]
    rows[0]["keep"] = "yes"
    rows[4]["keep"] = "YES"
    with (job.output / "review.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for _ in range(2):  # decisions outlive a run
        done = prepare(job)
        assert {crop.name for crop in done.path_of} == {rows[0]["photo"], rows[4]["photo"]}
    kept = list((job.output / "review" / "below a limit").glob("*/*.jpg"))
    assert len(kept) == 7
    for content, told in (
        (b"name\nx\n", "no columns photo and keep"),
        (b"\xff\xfep\0", r"review\.csv: not UTF-8 text \(byte 0\)\. Save it as UTF-8"),
        ("photo,keep\nJürgen/1.jpg,yes\n".encode("cp1252"), "not UTF-8 text"),
        (b"photo,keep\n" + b"x" * 200_000 + b",yes\n", "line 2: not CSV"),
        (b"photo,keep\na/1.jpg,no\na/2.jpg,ja\n", "line 3: keep is 'ja'; write yes or no"),
    ):
        (job.output / "review.csv").write_bytes(content)
        with pytest.raises(ManifestError, match=told):
            prepare(job)


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_decisions_are_read_as_spreadsheets_write_them(tmp_path, between):
    rows = [
        ("Photo", "person", "Keep"),
        ("a/1.jpg", "a", " Yes"),
        ("a/2.jpg", "a", ""),
        ("a/3.jpg",),
        (" b/1.jpg", "b", "x"),
    ]
    (tmp_path / "review.csv").write_text("\n".join(between.join(row) for row in rows), "utf-8-sig")
    assert run._decisions(tmp_path / "review.csv") == {"a/1.jpg", "b/1.jpg"}
    assert run._decisions(tmp_path / "gone.csv") == set()


def test_what_is_kept_by_review_may_have_blanks_around_its_name():
    """A table has names without them; a photo's second face is a crop of its own."""
    crops = [Crop(Photo(" p0", " p0/1.jpg", Path("1.jpg")), {}, {}, number) for number in (0, 1)]
    assert good_enough(crops, Limits(), {"p0/1.jpg", "p0/1.jpg (face 2)"}) == (crops, [])


def test_a_photo_unlike_its_persons_others_is_set_aside(tmp_path):
    record = {"source_sha256": ""}
    crops = [
        Crop(Photo(person, f"{person}/{n}", Path(f"{n}")), record, {"crop": f"{person}{n}"})
        for person in "ab"
        for n in range(4)
    ]
    crops.append(Crop(Photo("c", "c/0", Path("0")), record, {"crop": "c0"}))
    vectors = np.array(
        [[1, 0], [0.9, 0.1], [1, 0.1], [0, 1], [0, 1], [0.1, 1], [0, 0.9], [0.1, 1], [1, 0]], np.float32
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = []

    def embed(paths):
        asked.extend(paths)
        return vectors

    kept, dropped = consistent(crops, tmp_path, embed, 0.5, ())
    assert [out.name for out in dropped] == ["a/3"]
    assert "0.5" in dropped[0].detail
    assert len(kept) == 8
    assert asked[0] == tmp_path / "a0"
    assert consistent(crops, tmp_path, embed, 0.5, {"a/3"})[1] == []


def test_several_faces(photos, tmp_path):
    one, two = (np.asarray(Image.open(photos / person / "0.jpg")) for person in ("p0", "p1"))
    Image.fromarray(np.concatenate([one, two[100:300]])).save(photos / "p2" / "both.jpg", quality=95)
    names = {}
    for faces in ("largest", "all", "error"):
        config = PrepareConfig.resolved(None, {"crops.image_size": 64, "crops.faces": faces})
        done = prepare(Job(photos, tmp_path / faces, config, conflicts="drop"))
        names[faces] = {out.name: out.reason for out in done.dropped} | {
            crop.name: "" for crop in done.path_of
        }
    assert "several faces" not in names["largest"].values()
    assert names["error"]["p2/both.jpg"] == "several faces"
    assert any("(face 2)" in name for name in names["all"])


# Sessions and splits


def dated(person, number, taken, camera="Cam 1"):
    return Crop(Photo(person, f"{person}/{number}", Path()), {"taken": taken, "camera": camera}, {})


def test_sessions_are_chains_of_one_camera():
    crops = [dated("a", 0, "2020-01-01T10:00:00"), dated("a", 1, "2020-01-01T10:09:00"),
             dated("b", 0, "2020-01-01T10:18:00"), dated("b", 1, "2020-01-01T10:40:00"),
             dated("c", 0, "2020-01-01T10:05:00", "Cam 2"), dated("c", 1, None)]  # fmt: skip
    found = find_sessions(crops, 10)
    assert found.num_unknown == 1
    groups = {}
    for name, session in found.session_of.items():
        groups.setdefault(session, set()).add(name)
    assert sorted(map(sorted, groups.values())) == [["a/0", "a/1", "b/0"], ["b/1"], ["c/0"]]
    assert find_sessions(crops, 0).session_of == {}


def test_people_of_one_session_share_a_split(photos_folder, tmp_path):
    photos = tmp_path / "photos"
    for number in range(6):
        for photo in range(3):
            path = photos / f"p{number}" / f"{photo}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            exif = Image.Exif()
            exif[0x010F] = "Maker"
            exif.get_ifd(0x8769)[0x9003] = f"2021:05:0{number // 2 + 1} 12:0{photo}:{10 * (number % 2):02}"
            Image.open(photos_folder / f"p{number}" / f"{photo}.jpg").save(path, exif=exif, quality=95)
    for seed in range(3):
        done = prepare(Job(photos, tmp_path / "set", SMALL, split=(0.34, 0.33, 0.33), seed=seed))
        split_of = done.split.split_of
        assert set(split_of.values()) == {"train", "val", "test"}
        assert all(split_of[f"p{number}"] == split_of[f"p{number + 1}"] for number in (0, 2, 4))
    assert any("share a session" in note for note in done.notes)
    long = PrepareConfig.resolved(None, {"crops.image_size": 64, "duplicates.session_minutes": 10000})
    done = prepare(Job(photos, tmp_path / "set", long, split=(0.34, 0.33, 0.33)))
    assert any("too many to keep together" in note for note in done.notes)


def test_twin_pairs_that_fit_nobody_are_refused_and_nearly_named_twins_kept_together(photos_folder, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(photos_folder, photos)
    pairs = photos / "twin_pairs_infor.json"
    pairs.write_text('[["P0", "P1"]]')
    with pytest.raises(
        ManifestError, match=r"no twin pair fits \(1 given\), .*'P0' \(the data set has 'p0'\)"
    ):
        prepare(Job(photos, tmp_path / "set", SMALL))
    pairs.write_text('[["P0", "p1"], ["p2", "p3"]]')
    for seed in range(4):
        done = prepare(Job(photos, tmp_path / "set", SMALL, split=(0.34, 0.33, 0.33), seed=seed))
        assert done.split.split_of["p0"] == done.split.split_of["p1"]
    assert "1 id of a twin pair has no photos: 'P0' (the data set has 'p0')" in done.notes


# Settings


def test_settings_name_what_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match=r"did you mean 'quality\.min_eyes_px'"):
        PrepareConfig.resolved(None, {"quality.min_eye_px": 3})
    with pytest.raises(ConfigError, match=r"crops\.image_size: .* \(given: 3\)"):
        PrepareConfig.resolved(None, {"crops.image_size": 3})
    (tmp_path / "c.json").write_text('{"quality": {"min_score": null}, "crops": {"image_size": 96}}')
    config = PrepareConfig.resolved(str(tmp_path / "c.json"), {"crops.image_size": 64})
    assert (config.crops.image_size, config.quality.min_score) == (64, None)
    for values in ({"split": (0.5, 0.2, 0.2)}, {"split": (0.0, 0.5, 0.5)}, {"workers": 0}):
        with pytest.raises(ConfigError):
            Job(tmp_path, tmp_path / "x", **values)


def test_the_output_must_be_ours(photos, tmp_path):
    for output in (photos, photos / "set", tmp_path):
        with pytest.raises(ConfigError, match="Name another"):
            prepare(Job(photos, output, SMALL))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="holds something else"):
        prepare(Job(photos, tmp_path / "full", SMALL))
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_the_command_draws_a_contact_sheet(photos, tmp_path, capsys):
    arguments = [
        photos,
        "--output",
        tmp_path / "set",
        "--workers",
        "1",
        "--contact-sheet",
        tmp_path / "sheet.png",
    ]
    assert command.main([*map(str, arguments), "--crops.image_size", "64"]) == 0
    told = capsys.readouterr()
    assert "9 crops of 3 people from 9 photos" in told.out
    assert "everybody is a family of one" in told.err
    assert size_of(tmp_path / "sheet.png") == (3 * 328 - 8, 24 + 3 * 186 - 8)
