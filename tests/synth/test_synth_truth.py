"""What a set on disk tells about itself: who, where, and what differs, against the files themselves."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from twin_dcal.errors import ConfigError
from twin_dcal.synth import camera, difference, oracle
from twin_dcal.synth.canonical import CHEEK_Y
from twin_dcal.synth.folder import read_settings
from twin_dcal.synth.generate import Settings, generate
from twin_dcal.synth.identity import DIFFICULTIES, draw_family
from twin_dcal.synth.known import know
from twin_dcal.synth.masks import face_mask
from twin_dcal.synth.photo import Photo, draw_photo
from twin_dcal.synth.render import take
from twin_dcal.synth.sheet import write_contact_sheet
from twin_dcal.synth.truth import read_truth

SIZE = 96
SETTINGS = Settings(families=3, images=2, image_size=48, difficulty="easy", seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth") / "set"
    generate(folder, SETTINGS)
    return folder


def twins(level=DIFFICULTIES["easy"], family=1):
    return know(draw_family(3, family, 2, level), 2 * SIZE)


def mask_of(known, photo):
    return face_mask(known.person, known.maps, known.frame, photo, SIZE)


# The truth about files


def test_a_photo_drawn_again_from_its_key_is_the_one_in_the_file(folder):
    truth = read_truth(folder)
    assert truth.settings == SETTINGS
    assert len(truth.shots) == 2 * sum(len(SETTINGS.people_of(family)) for family in range(3))
    for shot in truth.shots[::3]:
        known = truth.members(shot.family)[shot.twin]
        pixels, points = known.take(truth.photo(shot), 48)
        again = io.BytesIO()
        Image.fromarray(pixels).save(again, "JPEG", quality=truth.photo(shot).quality, subsampling=0)
        assert again.getvalue() == (folder / shot.path).read_bytes()
        assert np.abs(points - shot.landmarks).max() < 1e-3


def test_floats_of_the_records_are_short_and_true(folder):
    record = json.loads((folder / "meta.jsonl").read_text().splitlines()[0])
    photo = draw_photo(SETTINGS.seed, record["family"], record["twin"], record["number"], SETTINGS.level)
    for name, value in photo._asdict().items():
        assert np.allclose(record["photo"][name], value, rtol=1e-5), name
    assert len(json.dumps(record)) < 3500


def test_where_twins_differ_is_seen_in_their_photos(folder):
    truth = read_truth(folder)
    shot = next(shot for shot in truth.shots if len(SETTINGS.people_of(shot.family)) > 1)
    members = truth.members(shot.family)
    seen = truth.differs(shot, members, 1 - shot.twin)
    assert seen.shape == (48, 48)
    assert seen.max() > 20
    assert not truth.differs(shot, members, shot.twin).any()
    bare = truth.face(shot, members)
    assert (seen * bare).sum() > 0.8 * seen.sum()  # differences lie on the face


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "synth.json").unlink(), "no SynTwins set"),
        (lambda folder: (folder / "synth.json").write_text("[1]"), "cannot be read"),
        (lambda folder: (folder / ".unfinished").mkdir(), "unfinished"),
        (lambda folder: change(folder, format_version=0), "another version"),
        (lambda folder: change(folder, colour="red"), "other settings"),
        (lambda folder: change(folder, families=0), "families: 0"),
    ],
)
def test_a_folder_that_is_no_complete_set_is_refused(damage, message, folder, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(folder, copy)
    damage(copy)
    with pytest.raises(ConfigError, match=message):
        read_truth(copy)


def change(folder, **values):
    (folder / "synth.json").write_text(json.dumps(read_settings(folder) | values))


# Where the face is


def test_the_mask_of_bare_face_is_the_face_without_hair_and_glasses():
    known = twins()[0]
    plain = mask_of(known, Photo())
    frame = known.person.frame
    view = camera.view_of(frame, camera.Depth(known.frame.height), Photo())
    points = {
        "cheek": (0.5, 0.5), "chin": (0.0, frame.chin_y - 0.15), "hair": (0.0, frame.hairline_y - 0.2),
        "beside": (1.4, CHEEK_Y), "forehead": (0.0, frame.hairline_y + 0.15),
    }  # fmt: skip
    at = {}
    for name, point in points.items():
        plane = view.matrix @ np.array(point) + view.shift - (0, camera.FRAME_Y) + camera.FRAME_HALF
        column, row = (plane * SIZE / (2 * camera.FRAME_HALF)).astype(int)
        at[name] = row, column
    assert plain.min() >= 0
    assert plain.max() <= 1
    assert [plain[at[name]] for name in ("cheek", "chin", "forehead")] == [1, 1, 1]
    assert [plain[at[name]] for name in ("hair", "beside")] == [0, 0]
    assert mask_of(known, Photo(fringe=1.0))[at["forehead"]] == 0
    glasses = mask_of(known, Photo(glasses=0.06))
    assert (glasses <= plain).all()
    assert 0.01 * plain.sum() < (plain - glasses).sum() < 0.2 * plain.sum()


def test_outside_the_mask_nothing_of_the_face_is_seen():
    """Another skin colour alone changes pixels inside, and on ears and neck."""
    known = twins()[0]
    photo = draw_photo(0, 0, 0, 1, DIFFICULTIES["hard"])._replace(noise=0.0, blur=0.0, hair_length=0.5)
    other = known.maps._replace(layers=known.maps.layers.copy())
    other.layers[..., :3] *= 0.3
    one = take(known.person, known.maps, known.frame, photo, SIZE)[0].astype(int)
    two = take(known.person, other, known.frame, photo, SIZE)[0].astype(int)
    bare = mask_of(known, photo)
    changed = np.abs(one - two).max(-1)
    hidden = bare == 0
    assert changed[hidden].max() <= 1
    assert (changed[bare > 0.9] > 5).mean() > 0.7  # eyes and teeth have colours of their own


# Difference maps in ordinary photos


@pytest.mark.parametrize("name", DIFFICULTIES)
def test_pasting_what_the_projected_map_shows_makes_one_twin_the_other(name):
    """Noise and blur off, which would carry differences over the map's edge; a margin of one pixel."""
    level, positions = DIFFICULTIES[name], []
    for family in range(3):
        one, other = twins(level, family)
        map_ = difference.difference_map((one.person, one.maps), (other.person, other.maps), one.frame, SIZE)
        for number in range(3):
            photo = draw_photo(5, family, 0, number, level)._replace(noise=0.0, blur=0.0)
            mine, yours = (known.take(photo, SIZE)[0] for known in (one, other))
            seen = difference.project(map_, one.person, one.maps, one.frame, photo) > 0
            seen |= difference.project(map_, other.person, other.maps, other.frame, photo) > 0
            near = np.pad(seen, 1)
            near = np.any([near[i : i + SIZE, j : j + SIZE] for i in range(3) for j in range(3)], axis=0)
            assert near.mean() < 0.45  # far less than the face
            assert oracle.position(mine, photo, one, other) == pytest.approx(1)
            pasted = np.where(near[..., None], yours, mine)
            positions.append(oracle.position(pasted, photo, one, other))
    assert max(positions) < -0.95


# Contact sheets


@pytest.mark.parametrize("name", ["sheet.jpg", "sheet.PNG"])
def test_a_contact_sheet_has_a_row_a_person(name, tmp_path):
    path = write_contact_sheet(tmp_path / name, SETTINGS)
    people = sum(len(SETTINGS.people_of(family)) for family in range(3))
    with Image.open(path) as image:
        assert image.size == (48 * (2 + SETTINGS.images), 48 * people)
        assert image.format == ("JPEG" if name.endswith("jpg") else "PNG")
        first = np.asarray(image)[:48, :48]
    known = know(SETTINGS.people_of(0), 96)[0]
    true = difference.canonical_face(known.person, known.maps, known.frame, 48)
    assert np.abs(first.astype(int) - true).mean() < 4
