"""Face coordinates, edits drawn from keys, pictures edited by them, and photographs dealt to edited people."""

import numpy as np
import pytest

from twin_dcal.edits.dealing import deal
from twin_dcal.edits.face import LANDMARKS, depth, fit_camera
from twin_dcal.edits.identity import TRAITS, Edit, Mark, draw_edit, is_cheek_or_brow
from twin_dcal.edits.warp import apply_edit, displacement, field, paint_marks

STILL = (0.0,) * len(TRAITS)


def shot(yaw=0.0, pitch=0.0, roll=0.0, scale=60.0, at=(112.0, 105.0)):
    """Landmarks of the mean face under a turn of the head, by rotating its points in space."""
    points = np.column_stack([LANDMARKS, depth(LANDMARKS[:, 0], LANDMARKS[:, 1])])
    y, p, r = np.radians([yaw, pitch, roll])
    aside = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    tilt = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return (points @ (tilt @ nod @ aside).T)[:, :2] * scale + np.array(at)


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 0), (25, 0, 0), (-35, 5, 10), (10, -12, -25)])
def test_a_camera_puts_landmarks_where_they_are_and_knows_the_turn(yaw, pitch, roll):
    seen = shot(yaw, pitch, roll)
    camera = fit_camera(seen)
    assert np.abs(camera.project(LANDMARKS) - seen).max() < 2.5
    assert camera.yaw == pytest.approx(yaw, abs=8)
    assert np.sign(round(camera.yaw)) == np.sign(yaw)
    assert camera.eye_distance == pytest.approx(60, rel=0.1)


def test_locate_is_the_inverse_of_project():
    camera = fit_camera(shot(20, 4, 8))
    places = np.random.default_rng(0).uniform([-0.7, -0.5], [0.7, 1.5], (200, 2))
    assert np.abs(camera.project(camera.locate(camera.project(places))) - camera.project(places)).max() < 0.3


def test_landmarks_that_coincide_are_refused():
    with pytest.raises(ValueError, match="coincide"):
        fit_camera(np.ones((5, 2)))


def test_the_same_key_draws_the_same_edit_and_any_other_key_another():
    edit = draw_edit(0, "0001", 0)
    assert edit == draw_edit(0, "0001", 0)
    others = [draw_edit(*key) for key in ((1, "0001", 0), (0, "0002", 0), (0, "0001", 1), (0, "0001", 0, 3))]
    assert len({edit, *others}) == 5


def test_both_halves_follow_one_law():
    edits = [[draw_edit(0, f"{number}", half) for number in range(400)] for half in (0, 1)]
    spread = np.array([trait.spread for trait in TRAITS])
    for half in edits:
        changes = np.array([edit.changes for edit in half]) / spread
        assert np.abs(changes.mean(axis=0)).max() < 0.2
        assert 0.85 < changes.std(axis=0).min() <= changes.std(axis=0).max() < 1.1
    counts = [np.mean([len(edit.marks) for edit in half]) for half in edits]
    assert counts[0] == pytest.approx(counts[1], abs=0.15)
    assert all(2 <= len(edit.marks) <= 4 for half in edits for edit in half)


def test_marks_lie_where_skin_is_and_apart():
    marks = [draw_edit(0, f"{number}", 0).marks for number in range(100)]
    assert all(is_cheek_or_brow(mark.u, mark.v) for some in marks for mark in some)
    for eye_or_lip in ((0.5, 0.0), (-0.5, 0.05), (0.0, 1.06), (0.3, 1.1), (1.2, 0.3)):
        assert not is_cheek_or_brow(*eye_or_lip)


def test_strength_scales_an_edit_and_zero_changes_nothing():
    edit = draw_edit(0, "0001", 0)
    assert edit.scaled(0).bumps == ()
    assert edit.scaled(0).marks == ()
    assert np.allclose(edit.scaled(0.5).changes, np.array(edit.changes) / 2)
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    cv2 = pytest.importorskip("cv2", reason="needs the extra 'prepare'")
    assert cv2 is not None
    camera = fit_camera(shot(scale=28, at=(48, 44)))
    assert np.array_equal(apply_edit(pixels, camera, edit.scaled(0)), pixels)
    assert not np.array_equal(apply_edit(pixels, camera, edit), pixels)


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_no_edit_folds_the_face(strength):
    line = np.linspace(-1.3, 1.9, 161)
    grid = np.stack(np.meshgrid(line, line), axis=-1)
    step = line[1] - line[0]
    for number in range(30):
        moved = grid - field(draw_edit(0, f"{number}", 0).scaled(strength).bumps, grid)
        across, down = np.gradient(moved, step, axis=1), np.gradient(moved, step, axis=0)
        assert (across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]).min() > 0.1


def test_a_wider_mouth_is_wider_in_any_pose_and_the_border_stays():
    pytest.importorskip("cv2", reason="needs the extra 'prepare'")
    names = [trait.name for trait in TRAITS]
    wider = Edit(tuple(0.05 if name == "mouth width" else 0.0 for name in names), ())
    for yaw in (-25, 0, 25):
        landmarks = shot(yaw)
        camera = fit_camera(landmarks)
        across, down = displacement(camera, wider.bumps, 224, 224)
        (left, right) = landmarks[3:].astype(int)
        assert across[right[1], right[0]] > 0.8
        assert across[left[1], left[0]] < -0.8
        assert np.abs(across[[0, -1]]).max() < 0.1
        assert np.abs(across[:, [0, -1]]).max() < 0.1
        assert np.abs(down).max() < 0.8


def test_a_mark_darkens_its_place_and_is_hidden_on_the_far_side():
    grey = np.full((224, 224, 3), 180, np.uint8)
    mark = Mark(-0.75, 0.55, radius=0.03, darkening=0.5, long=1.0, turn=0.0, tint=(1.0, 1.0, 1.0))
    frontal, away, towards = (fit_camera(shot(yaw)) for yaw in (0, -38, 38))
    places = [
        np.round(camera.project(np.array([mark.u, mark.v]))).astype(int) for camera in (frontal, towards)
    ]
    for camera, (x, y) in zip((frontal, towards), places, strict=True):
        changed = paint_marks(grey, camera, (mark,))
        assert changed[y, x, 0] < 130
        assert (changed != grey).any(axis=-1).sum() < 120
    hidden = paint_marks(grey, away, (mark,))
    assert hidden.min() > paint_marks(grey, frontal, (mark,)).min() + 25
    assert grey.min() == 180


def test_photographs_are_dealt_evenly_at_random_and_copies_stay_together():
    copies = [[0, 5, 9], [2, 3]]
    hands = deal(20, copies, 2, 0, "0001")
    assert sorted(number for hand in hands for number in hand) == list(range(20))
    assert abs(len(hands[0]) - len(hands[1])) <= 1
    for group in copies:
        assert sum(set(group) <= set(hand) for hand in hands) == 1
    assert deal(20, copies, 2, 0, "0001") == hands != deal(20, copies, 2, 1, "0001")
    first = np.array(
        [[number in deal(21, [], 2, 0, f"{person}")[0] for number in range(21)] for person in range(300)]
    )
    assert np.abs(first.mean(axis=0) - 0.5).max() < 0.12
    assert {len(hand) for hand in deal(3, [], 3, 0, "x")} == {1}


def test_marks_are_painted_on_this_face_s_skin_alone():
    """Skin of any colour; hair, glasses and background that differ from it get none."""
    pytest.importorskip("cv2", reason="needs the extra 'prepare'")
    camera = fit_camera(shot())
    marks = tuple(
        Mark(u, v, radius=0.03, darkening=0.5, long=1.0, turn=0.0, tint=(1.0, 1.0, 1.0))
        for u, v in ((-0.6, 0.5), (0.6, 0.5), (0.0, -0.5))
    )
    places = [np.round(camera.project(np.array([mark.u, mark.v]))).astype(int) for mark in marks]
    noise = np.random.default_rng(0).normal(0, 4, (224, 224, 3))
    for skin in ((224, 180, 160), (92, 60, 45), (130, 130, 130)):
        picture = np.clip(np.full((224, 224, 3), skin) + noise, 0, 255).astype(np.uint8)
        picture[: places[2][1] + 12] = (25, 20, 60)  # a cap
        x, y = places[0]
        picture[y - 14 : y + 14, x - 14 : x + 14] = (40, 150, 40)  # a leaf
        changed = (paint_marks(picture, camera, marks) != picture).any(axis=-1)
        seen = [changed[y - 2 : y + 3, x - 2 : x + 3].any() for x, y in places]
        assert seen == [False, True, False]
