"""Thumbnails and galleries: small, without metadata, and blurred for good where asked."""

import base64
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twin_dcal.evaluation.result import WorstPair
from twin_dcal.report import galleries
from twin_dcal.report.galleries import PathEraser, pair_cards, short_path
from twin_dcal.report.thumbnails import BLOCKS, SIZE, thumbnail


def pixels_of(source):
    head, data = source.split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(BytesIO(base64.b64decode(data))) as image:
        assert not image.getexif()
        return np.asarray(image).astype(float)


def save(path, pixels, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path, **kwargs)
    return path


def noisy_face(seed, size=160):
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.uniform(60, 190, (5, 5, 3)), np.ones((size // 5, size // 5, 1)))
    return np.clip(coarse + rng.normal(0, 30, (size, size, 3)), 0, 255)


def test_thumbnails_are_small_and_like_the_image(tmp_path):
    path = save(tmp_path / "wide.png", np.kron(noisy_face(0), np.ones((3, 5, 1))))
    made = pixels_of(thumbnail(path))
    assert made.shape == (SIZE * 3 // 5, SIZE, 3)
    with Image.open(path) as image:
        expected = np.asarray(image.resize((SIZE, SIZE * 3 // 5), Image.Resampling.BICUBIC)).astype(float)
    assert np.corrcoef(made.ravel(), expected.ravel())[0, 1] > 0.9
    assert pixels_of(thumbnail(save(tmp_path / "tiny.png", noisy_face(1, 10)))).shape == (10, 10, 3)


def test_metadata_stay_behind_and_images_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "taken at home"
    upper = np.zeros((64, 64, 3))
    upper[:32] = 255
    made = thumbnail(save(tmp_path / "turned.jpg", upper, exif=exif, quality=95))
    assert b"taken at home" not in base64.b64decode(made.split(",")[1])
    pixels = pixels_of(made)
    assert pixels[:, 40:].mean() > 200  # the sensor's upper half is on the right once turned
    assert pixels[:, :24].mean() < 50


def test_blur_leaves_nothing_but_block_means(tmp_path):
    """Two images that differ in everything finer than a block give the very same thumbnail."""
    size, block = 160, 160 // BLOCKS
    face = np.round(noisy_face(2, size))
    other = face.reshape(BLOCKS, block, BLOCKS, block, 3)[:, ::-1, :, ::-1].reshape(size, size, 3)
    one, two = save(tmp_path / "one.png", face), save(tmp_path / "two.png", other)
    assert thumbnail(one) != thumbnail(two)
    assert thumbnail(one, blur=True) == thumbnail(two, blur=True)
    clear, blurred = pixels_of(thumbnail(one)), pixels_of(thumbnail(one, blur=True))
    assert blurred.shape == clear.shape
    assert np.abs(blurred - clear).mean() > 15
    assert np.abs(np.diff(blurred, axis=0)).max() < 12  # no edges left


@pytest.mark.parametrize("size", [(40, 300), (7, 5), (1, 1)])
def test_images_of_any_shape_can_be_blurred(tmp_path, size):
    path = save(tmp_path / "odd.png", noisy_face(0, 300)[: size[0], : size[1]])
    assert pixels_of(thumbnail(path, blur=True)).shape == pixels_of(thumbnail(path)).shape


def test_what_cannot_be_read_has_no_thumbnail(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    assert [thumbnail(path) for path in (broken, tmp_path, tmp_path / "none.png", Path("a\0b"))] == [None] * 4


def pair(first, second):
    return WorstPair(str(first), str(second), "anna", "berta", "twin", 0.8)


def test_relative_paths_are_found_as_they_stand_or_below_the_root(tmp_path, monkeypatch):
    save(tmp_path / "set/anna/1.png", noisy_face(0))
    monkeypatch.chdir(tmp_path)
    for told, root in (
        ("set/anna/1.png", Path("set")),
        ("anna/1.png", Path("set")),
        (tmp_path / "set/anna/1.png", None),
    ):
        (card,) = pair_cards([pair(told, "absent")], root)
        assert card.first.source.startswith("data:image/jpeg")
        assert card.second.source is None
    assert pair_cards([pair("anna/1.png", "absent")], None)[0].first.source is None


def test_overlays_stand_beside_images_that_are_not_blurred(tmp_path):
    path = save(tmp_path / "set/anna/1.png", noisy_face(0))
    drawn = {(str(path), "absent"): (np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8))}

    def card(first="absent", **how):
        return pair_cards([pair(first, "absent")], None, overlays=drawn, **how)[0]

    told = card(path)
    assert told.first.overlay.startswith("data:image/jpeg")
    assert told.second.overlay.startswith("data:image/jpeg")
    assert told.first.overlay != told.second.overlay
    for without in (card(path, blur=True), card(path, images=False), card("other")):
        assert without.first.overlay is without.second.overlay is None


def test_a_gallery_is_capped_and_says_who_and_how_much_alike(tmp_path):
    cards = pair_cards([pair("a", "b")] * 60, tmp_path, images=False)
    assert len(cards) == galleries.MAX_PAIRS
    assert (cards[0].score, cards[0].words, cards[0].first.person, cards[0].second.person) == (
        "0.8000", "twins", "anna", "berta"
    )  # fmt: skip


def test_paths_are_short_and_left_out_where_a_report_travels(tmp_path):
    path = save(tmp_path / "set/anna/1.png", noisy_face(0))
    shown = [
        pair_cards([pair(path, "absent")], None, **how)[0].first
        for how in ({}, {"blur": True}, {"images": False})
    ]
    assert [shot.path for shot in shown] == ["anna/1.png", "", ""]
    assert [bool(shot.source) for shot in shown] == [True, True, False]
    assert shown[0].source != shown[1].source


@pytest.mark.parametrize(
    ("path", "root", "short"),
    [
        ("/home/me/set/anna/1.png", "/home/me/set", "anna/1.png"),
        ("/home/me/set/anna/1.png", None, "anna/1.png"),
        ("/home/me/set/anna/1.png", "/elsewhere", "anna/1.png"),
        ("runs/data/test/anna/1.png", "runs/data", "test/anna/1.png"),
        ("anna-7", None, "anna-7"),
        ("/1.png", None, "1.png"),
    ],
)
def test_short_paths_are_never_absolute(path, root, short):
    assert short_path(path, None if root is None else Path(root)) == short


def test_erased_paths_leave_names(small):
    figures = {**small.figures, "test_data": "/home/jo doe/my set", "model": "/srv/a b/arc.onnx"}
    erase = PathEraser(replace(small, figures=figures))
    assert erase("eer on /home/jo doe/my set (val)") == "eer on my set (val)"
    assert erase("model /srv/a b/arc.onnx.") == "model arc.onnx."
    assert erase("see C:\\faces\\anna.png, 'runs/x/y'") == "see anna.png, 'y'"
    assert erase("FMR 1e-4 on unrelated people") == "FMR 1e-4 on unrelated people"
    erase = PathEraser(replace(small, figures=figures), keep_relative=True)
    assert erase("--model=/srv/a/arc.onnx --data_dir runs/faces") == "--model=arc.onnx --data_dir runs/faces"
    assert erase("eer on /home/jo doe/my set, see C:\\faces\\x.png") == "eer on my set, see x.png"


def test_kinds_of_wrong_decisions_are_never_mixed(realistic):
    made = galleries.galleries(realistic, None, images=False)
    at = {name: realistic.figures[name]["confusion"] for name in ("twin", "unrelated")}
    assert [part.title for part in made] == [
        "False matches: twins", "False matches: unrelated people", "False non-matches"
    ]  # fmt: skip
    assert [part.total for part in made] == [
        at["twin"]["num_false_matches"], at["unrelated"]["num_false_matches"], at["twin"]["num_false_non_matches"]
    ]  # fmt: skip
    assert [{card.kind for card in part.cards} for part in made] == [{"twin"}, {"unrelated"}, {"genuine"}]
    for part in made:
        scores = [float(card.score) for card in part.cards]
        assert scores == sorted(scores, reverse=not part.title.startswith("False non"))
        assert 10 < len(scores) <= galleries.MAX_PAIRS
        assert len(scores) < part.total
        people = [frozenset((card.first.person, card.second.person)) for card in part.cards]
        assert len(set(people)) == len(people)
