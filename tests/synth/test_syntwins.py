"""SynTwins: same key, same pixels; twins differ where the map says and nowhere else; the truth is solvable."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from twin_dcal.cli import synth
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.pairs import read_pairs
from twin_dcal.errors import ConfigError
from twin_dcal.metrics.error_rates import auc, sort_scores
from twin_dcal.synth import camera, difference, features, oracle, render
from twin_dcal.synth.generate import Settings, generate
from twin_dcal.synth.identity import DIFFICULTIES, OUTER, draw_family
from twin_dcal.synth.photo import Photo, draw_photo
from twin_dcal.synth.scene import look

SIZE = 48
SMALL = Settings(families=4, images=2, image_size=32, difficulty="easy", seed=5)


def known_twins(difficulty, family=0, size=SIZE):
    return oracle.know(draw_family(3, family, 2, difficulty), 2 * size)


def taken(known, photo, size=SIZE):
    return render.take(known.person, known.maps, known.frame, photo, size)[0]


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("syntwins") / "set"
    assert generate(folder, SMALL) == sum(2 * len(SMALL.people_of(family)) for family in range(4))
    return folder


def test_the_same_key_draws_the_same_pixels_and_another_key_others():
    level = DIFFICULTIES["medium"]
    photos = [draw_photo(1, 2, 0, number, level) for number in (0, 0, 1)]
    one = known_twins(level)[0]
    first, again, other = (taken(one, photo) for photo in photos)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", DIFFICULTIES)
def test_twins_share_skin_and_every_trait_that_shows_outside_the_face(name):
    one, other = draw_family(0, 7, 2, DIFFICULTIES[name])
    assert one.skin == other.skin
    assert one.frame == other.frame
    moved = {
        trait
        for trait, a, b in zip(one.geometry._fields, one.geometry, other.geometry, strict=True)
        if a != b
    }
    assert not moved & OUTER
    assert len(moved) == len(one.geometry) - len(OUTER)
    assert one.marks != other.marks


def test_without_marks_and_deviations_twins_are_the_same_to_the_last_bit():
    nothing = DIFFICULTIES["hard"]._replace(deviation=0.0, num_own_marks=(0, 0))
    one, other = known_twins(nothing)
    assert np.array_equal(one.maps.layers, other.maps.layers)
    assert np.array_equal(one.maps.height, other.maps.height)
    photo = draw_photo(1, 1, 0, 0, nothing)
    assert np.array_equal(taken(one, photo), taken(other, photo))


def test_circumstances_are_never_kept_from_photo_to_photo_or_shared_by_twins():
    level = DIFFICULTIES["easy"]
    photos = [draw_photo(0, 0, twin, number, level) for twin in (0, 1) for number in range(20)]
    for name in (
        "hair_volume",
        "strands_key",
        "noise_key",
        "backdrop",
        "clothes",
        "light",
        "parting",
        "blur",
    ):
        assert len({getattr(photo, name) for photo in photos}) == len(photos), name


@pytest.mark.parametrize("name", DIFFICULTIES)
def test_an_oracle_tells_twins_apart_in_every_difficulty(name, tmp_path):
    level, genuine, twin = DIFFICULTIES[name], [], []
    for family in range(3):
        pair = known_twins(level, family, 112)
        sides = []
        for index, known in enumerate(pair):
            for number in range(4):
                photo = draw_photo(9, family, index, number, level)
                file = tmp_path / "photo.jpg"
                Image.fromarray(taken(known, photo, 112)).save(file, quality=photo.quality)
                sides.append((index, oracle.position(np.asarray(Image.open(file)), photo, *pair)))
        for i, (mine, a) in enumerate(sides):
            for yours, b in sides[:i]:
                (genuine if mine == yours else twin).append(oracle.pair_score((a, b)))
    assert auc(sort_scores(genuine, twin)) >= 0.99


def test_outside_the_difference_map_twins_have_the_same_face_and_pasting_it_changes_sides():
    one, other = known_twins(DIFFICULTIES["easy"])
    faces = [difference.canonical_face(k.person, k.maps, k.frame, SIZE) for k in (one, other)]
    differs = difference.difference_map((one.person, one.maps), (other.person, other.maps), one.frame, SIZE)
    assert np.array_equal(faces[0][differs == 0], faces[1][differs == 0])
    assert 0.02 < (differs > 0).mean() < 0.4
    pasted = np.where((differs > 0)[..., None], faces[1], faces[0])
    assert oracle.position(faces[0], Photo(), one, other) == pytest.approx(1)
    assert oracle.position(pasted, Photo(), one, other) == pytest.approx(-1)


def test_with_marks_alone_the_map_is_the_marks():
    one, other = known_twins(DIFFICULTIES["easy"]._replace(deviation=0.0))
    differs = difference.difference_map((one.person, one.maps), (other.person, other.maps), one.frame, SIZE)
    rows, columns = np.nonzero(differs)
    pixel = 2 * camera.FRAME_HALF / SIZE
    view = camera.view_of(one.person.frame, camera.Depth(one.frame.height), Photo())
    marks = np.array([(m.x, m.y, m.radius) for p in (one, other) for m in p.person.marks])
    spots = marks[:, :2] @ view.matrix.T + view.shift
    for row, column in zip(rows, columns, strict=True):
        x = (column + 0.5) * pixel - camera.FRAME_HALF
        y = (row + 0.5) * pixel - camera.FRAME_HALF + camera.FRAME_Y
        away = np.hypot(spots[:, 0] - x, spots[:, 1] - y) - 1.7 * marks[:, 2]
        assert away.min() < 2 * pixel


def test_the_projected_map_covers_what_differs_in_an_ordinary_photo():
    level = DIFFICULTIES["easy"]._replace(deviation=0.0, glasses=0.0)
    one, other = known_twins(level)
    differs = difference.difference_map((one.person, one.maps), (other.person, other.maps), one.frame, SIZE)
    for number in range(4):
        photo = draw_photo(2, 0, 0, number, level)._replace(noise=0.0, fringe=0.0)
        seen = difference.project(differs, one.person, one.maps, one.frame, photo)
        apart = np.abs(one.ideal(photo, SIZE) - other.ideal(photo, SIZE)).sum(-1)
        assert apart[seen > 0].sum() > 0.8 * apart.sum()
        assert (seen > 0).mean() < 0.35


def test_landmarks_are_where_the_inverse_warp_sees_the_same_points():
    level = DIFFICULTIES["hard"]
    one = known_twins(level)[0]
    face = one.person.geometry
    for number in range(4):
        photo = draw_photo(4, 0, 0, number, level)._replace(smile=0.0)
        view = camera.view_of(one.person.frame, camera.Depth(one.frame.height), photo)
        points = camera.landmarks(face, camera.Depth(one.maps.height), photo, view, SIZE)
        x, y, _ = camera.face_coordinates(*camera.plane_coordinates(SIZE, view), one.maps.height, view)
        true = [(-face.eye_x, -face.eye_offset / 2), (face.eye_x, face.eye_offset / 2), None,
                (face.mouth_offset - face.mouth_width, face.mouth_y),
                (face.mouth_offset + face.mouth_width, face.mouth_y)]  # fmt: skip
        for (column, row), where in zip(points, true, strict=True):
            if where is not None:
                at = round(float(row)), round(float(column))
                assert np.hypot(x[at] - where[0], y[at] - where[1]) < 1.2 * 2 * camera.FRAME_HALF / SIZE


@pytest.mark.parametrize("smile", [0.0, 0.5, 1.0])
def test_corners_of_the_mouth_are_where_the_lips_end(smile):
    known = known_twins(DIFFICULTIES["medium"], size=96)[0]
    photo = Photo(smile=smile, yaw=0.1, roll=0.1, pitch=-0.1)
    scene, view = look(known.person, known.maps, known.frame, photo, 96)
    plain = np.ones((96, 96, 3), np.float32)
    lips = np.abs(features.mouth(plain, known.person, photo, scene) - plain).max(-1) > 0.25
    points = camera.landmarks(known.person.geometry, camera.Depth(known.maps.height), photo, view, 96)
    columns = np.flatnonzero(lips.any(0))
    for (x, y), column in zip(points[3:], (columns[0], columns[-1]), strict=True):
        assert column == pytest.approx(x, abs=2)
        assert np.flatnonzero(lips[:, column]).mean() == pytest.approx(y, abs=1)


def test_noise_is_drawn_anew_for_each_key_and_is_as_strong_as_it_says():
    known = known_twins(DIFFICULTIES["easy"])[0]
    photos = [Photo(noise=noise, noise_key=key) for noise, key in ((0, 1), (0.02, 1), (0.02, 2))]
    still, one, other = (taken(known, photo).astype(float) for photo in photos)
    assert (one - still).std() == pytest.approx(0.02 * 255, rel=0.05)
    assert abs(np.corrcoef((one - still).ravel(), (other - still).ravel())[0, 1]) < 0.05


def test_a_head_turned_to_the_viewers_right_shows_more_of_its_left_side():
    known = known_twins(DIFFICULTIES["easy"])[0]
    for yaw in (-0.3, 0.3):
        photo = Photo(yaw=yaw)
        view = camera.view_of(known.person.frame, camera.Depth(known.frame.height), photo)
        points = camera.landmarks(known.person.geometry, camera.Depth(known.maps.height), photo, view, SIZE)
        nose = (points[2, 0] - points[:2, 0].mean()) / (points[1, 0] - points[0, 0])
        assert np.sign(nose) == np.sign(yaw)


def test_workers_do_not_change_a_byte(small, tmp_path):
    generate(tmp_path / "set", SMALL, workers=2)
    assert digest(tmp_path / "set") == digest(small)


def test_a_set_that_was_interrupted_is_finished_to_the_same_bytes(small, tmp_path, monkeypatch):
    folder = tmp_path / "set"
    from twin_dcal.synth import generate as module

    whole, calls = module.write_family, []

    def until_the_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        whole(*arguments)

    monkeypatch.setattr(module, "write_family", until_the_third)
    options = [
        "--families",
        "4",
        "--images",
        "2",
        "--image_size",
        "32",
        "--difficulty",
        "easy",
        "--seed",
        "5",
    ]
    assert synth.main(["--output", str(folder), *options, "--workers", "1"]) == 130
    assert not list(folder.glob("*_infor.json"))
    monkeypatch.setattr(module, "write_family", whole)
    assert synth.main(["--output", str(folder), *options, "--resume"]) == 0
    assert digest(folder) == digest(small)
    assert synth.main(["--output", str(folder), *options, "--resume"]) == 0
    assert digest(folder) == digest(small)


def test_families_do_not_depend_on_how_many_there_are(small, tmp_path):
    generate(tmp_path / "set", Settings(families=5, images=3, image_size=32, difficulty="easy", seed=5))
    for path in small.glob("train/*/*.jpg"):
        assert (tmp_path / "set" / path.relative_to(small)).read_bytes() == path.read_bytes()


def test_the_set_reads_back_without_findings(small):
    config = TwinVerificationConfig.preset("quickstart").override(
        {"data.data_dir": str(small), "data.strict": True}
    )
    data = TwinDataModule(config)
    data.setup()
    people = [person for family in range(4) for person in SMALL.people_of(family)]
    assert (
        data.face_data.train.num_people + data.face_data.val.num_people + data.face_data.test.num_people
        == len(people)
    )
    pairs = read_pairs(small / "test_pairs.json", str(small))
    assert {bool(same) for same in pairs.same} == {True, False}
    lines = [json.loads(line) for line in (small / "meta.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * len(people)
    assert {"path", "landmarks", "photo", "geometry", "skin", "marks"} <= lines[0].keys()
    assert all((small / line["path"]).is_file() for line in lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--families", "0"], "families: 0"),
        (["--image_size", "31"], "image_size: 31"),
        (["--images", "1"], "images: 1"),
        (["--workers", "0"], "--workers 0"),
        (["--seed", "-1"], "seed: -1"),
        (["--resume", "--overwrite"], "exclude each other"),
        (["--nothing.known", "1"], "no option"),
    ],
)
def test_bad_options_get_one_line_and_write_nothing(options, message, tmp_path, capsys):
    assert synth.main(["--output", str(tmp_path / "set"), *options]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "set").exists()


def test_folders_that_hold_something_else_are_left_alone(small, tmp_path, capsys):
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("precious")
    for options in ([], ["--overwrite"], ["--resume"]):
        assert synth.main(["--output", str(foreign), *options]) == 2
        assert "not empty" in capsys.readouterr().err
    assert [path.name for path in foreign.iterdir()] == ["mine.txt"]
    assert synth.main(["--output", str(small)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert synth.main(["--output", str(small), "--resume", "--families", "9"]) == 2
    assert "families 4, not 9" in capsys.readouterr().err


def test_overwrite_removes_what_the_set_wrote_and_nothing_else(tmp_path):
    folder = tmp_path / "set"
    generate(folder, SMALL)
    mine = [
        folder / name
        for name in ("notes.txt", "train/00000a/mine.txt", "train/me/00000a_000.jpg", "masks/a.png")
    ]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    less = Settings(families=3, images=2, image_size=32, difficulty="easy", seed=5)
    generate(folder, less, overwrite=True)
    assert [path.read_text() for path in mine] == ["mine"] * 4
    for path in mine:
        path.unlink()
    (folder / "train" / "me").rmdir()
    generate(tmp_path / "afresh", less)
    assert digest(folder) == digest(tmp_path / "afresh")


def test_overwrite_that_was_stopped_leaves_a_set_that_is_not_complete(small, tmp_path, monkeypatch):
    from twin_dcal.synth import folder as module

    def stopped(*_):
        raise KeyboardInterrupt

    shutil.copytree(small, tmp_path / "set")
    monkeypatch.setattr(module, "_remove_files", stopped)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "set", SMALL, overwrite=True)
    monkeypatch.undo()
    assert not module.is_complete(tmp_path / "set")
    generate(tmp_path / "set", SMALL, resume=True)
    assert digest(tmp_path / "set") == digest(small)


def test_families_are_pairs_triplets_and_singles_as_the_data_room_reads_them(tmp_path):
    mixed = Settings(families=12, images=2, image_size=32, single_share=0.3, triplet_share=0.3, seed=1)
    generate(tmp_path / "set", mixed)
    config = TwinVerificationConfig.preset("quickstart").override({"data.data_dir": str(tmp_path / "set")})
    data = TwinDataModule(config)
    data.setup()
    drawn = [len(mixed.people_of(family)) for family in range(12)]
    assert set(drawn) == {1, 2, 3}
    found = {}
    for split in ("train", "val", "test"):
        part = getattr(data.face_data, split)
        for person in {path.parent.name for paths in part.images_of().values() for path in paths}:
            found.setdefault((split, person[:5]), set()).add(person)
        families = [family for family in range(12) if mixed.split_of(family) == split]
        assert part.num_families == len(families)
        assert part.num_twin_families == sum(drawn[family] > 1 for family in families)
        assert part.num_people == sum(drawn[family] for family in families)
    assert sorted(map(len, found.values())) == sorted(drawn)


def test_test_pairs_are_all_genuine_and_twin_pairs_and_some_unrelated(tmp_path):
    settings = Settings(families=20, images=3, image_size=32, seed=2)
    generate(tmp_path / "set", settings)
    pairs = json.loads((tmp_path / "set" / "test_pairs.json").read_text())
    people = [[str(path).split("/")[1] for path in (pair["img1"], pair["img2"])] for pair in pairs]
    kinds = ["genuine" if a == b else "twin" if a[:5] == b[:5] else "unrelated" for a, b in people]
    assert [pair["label"] for pair in pairs] == [int(kind == "genuine") for kind in kinds]
    sizes = [len(settings.people_of(family)) for family in range(20) if settings.split_of(family) == "test"]
    assert kinds.count("genuine") == 3 * sum(sizes)
    assert kinds.count("twin") == sum(9 * n * (n - 1) // 2 for n in sizes)
    assert 0.6 * kinds.count("genuine") < kinds.count("unrelated") <= kinds.count("genuine")
    assert len({frozenset((pair["img1"], pair["img2"])) for pair in pairs}) == len(pairs)


def test_a_command_without_a_goal_or_with_two_is_told_so(tmp_path, capsys):
    for options in ([], ["--output", str(tmp_path / "set"), "--contact_sheet", str(tmp_path / "sheet.jpg")]):
        assert synth.main(options) == 2
        assert capsys.readouterr().err.startswith("error: give --output DIR")
    drawn = ["--families", "3", "--images", "2", "--image_size", "32"]
    assert synth.main(["--contact_sheet", str(tmp_path / "sheet.jpg"), *drawn]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.jpg"]


def test_a_full_disk_is_one_line_and_leaves_no_description(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "photo.jpg")

    monkeypatch.setattr(Image.Image, "save", full)
    options = ["--families", "3", "--images", "2", "--image_size", "32", "--workers", "1"]
    assert synth.main(["--output", str(tmp_path / "set"), *options]) == 2
    assert "No space left" in capsys.readouterr().err
    assert not list((tmp_path / "set").glob("*_infor.json"))
    assert not (tmp_path / "set" / "test_pairs.json").exists()


def test_damaged_settings_are_named(tmp_path):
    (tmp_path / "synth.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        generate(tmp_path, SMALL, resume=True)
