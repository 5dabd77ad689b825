"""What holds of every recipe, and what the second one does."""

import numpy as np
import pytest
from test_edits import shot

from twin_dcal.edits.face import LANDMARKS, fit_camera
from twin_dcal.edits.recipes import RECIPES, edited, self_of
from twin_dcal.edits.splines import Frame, SplineEdit, draw_splines, spline_field

pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")

NO_COLOUR = {"lips": (0.0,), "brows": (0.0,), "cheeks": (0.0,), "irises": (0.0,) * 3, "folds": (0.0,)}


def picture(side=224):
    """Skin with noise."""
    rng = np.random.default_rng(0)
    return np.clip(np.array([190, 150, 130]) + rng.normal(0, 12, (side, side, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
@pytest.mark.parametrize("yaw", [-35, 0, 20])
def test_nothing_is_changed_at_zero_and_the_border_never(recipe, yaw):
    pixels, camera = picture(), fit_camera(shot(yaw))
    assert np.array_equal(edited(recipe, pixels, camera, self_of(recipe, 0, "x", 0, 0.0)), pixels)
    changed = edited(recipe, pixels, camera, self_of(recipe, 0, "x", 0, 1.0))
    apart = np.abs(changed.astype(int) - pixels).max(axis=-1)
    assert apart.max() > 20
    assert np.mean(apart[[0, -1]]) < 1
    assert np.mean(apart[:, [0, -1]]) < 1


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_the_same_key_makes_the_same_self_and_halves_follow_one_law(recipe):
    pixels, camera = picture(), fit_camera(shot())
    one, again, other, later = (
        edited(recipe, pixels, camera, self_of(recipe, 0, "x", half, 1.0, *more))
        for half, more in ((0, ()), (0, ()), (1, ()), (0, (3,)))
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, later)
    described = self_of(recipe, 0, "x", 0, 1.0).described()
    assert (
        described
        == self_of(recipe, 0, "x", 0, 1.0).described()
        != self_of(recipe, 0, "x", 1, 1.0).described()
    )


def test_moves_of_both_halves_follow_one_law_and_sides_go_together():
    moves = np.array(
        [[draw_splines(0, f"{number}", half).moves for number in range(1000, 1400)] for half in (0, 1)]
    )
    spread = moves.std(axis=1)
    assert np.abs(spread[0] - spread[1]).max() < 0.004
    assert np.abs(moves.mean(axis=1)).max() < 0.0045
    right, left = moves[0, :, 7:20], moves[0, :, 20:]
    along_v = np.corrcoef(right[..., 1].ravel(), left[..., 1].ravel())[0, 1]
    along_u = np.corrcoef(right[..., 0].ravel(), left[..., 0].ravel())[0, 1]
    assert along_v > 0.5
    assert along_u < -0.5


@pytest.mark.parametrize("strength", [1.0, 2.0])
@pytest.mark.parametrize("yaw", [0, 35])
def test_no_spline_folds_the_picture(strength, yaw):
    frame = Frame.of(shot(yaw))
    for number in range(20):
        field = spline_field(frame, draw_splines(0, f"{number}", 0).scaled(strength), 224, 224)
        across, down = np.gradient(field, axis=1), np.gradient(field, axis=0)
        area = (1 - across[..., 0]) * (1 - down[..., 1]) - across[..., 1] * down[..., 0]
        assert area.min() > 0.1


@pytest.mark.parametrize("yaw", [-30, 0, 30])
def test_a_frame_puts_landmarks_where_they_are_and_a_spline_moves_its_points(yaw):
    landmarks = shot(yaw)
    frame = Frame.of(landmarks)
    assert np.abs(frame.place(LANDMARKS) - landmarks).max() < 2
    moves = np.zeros((33, 2))
    moves[2] = 0.0, 0.05  # the tip of the nose, down
    still = SplineEdit(tuple(map(tuple, moves.tolist())), NO_COLOUR, ())
    field = spline_field(frame, still, 224, 224)
    x, y = frame.place(np.array([0.0, 0.6])).astype(int)
    assert field[y, x, 1] == pytest.approx(0.05 * frame.unit, rel=0.25)
    x, y = landmarks[0].astype(int)
    assert np.abs(field[y, x]).max() < 0.5


def test_colours_change_their_part_alone():
    pixels, camera = picture(), fit_camera(shot())
    moves = ((0.0, 0.0),) * 33
    redder = SplineEdit(moves, NO_COLOUR | {"lips": (0.2,)}, ())
    changed = edited("splines", pixels, camera, redder).astype(int) - pixels
    x, y = Frame.of(camera.landmarks).place(np.array([0.0, 1.06])).astype(int)
    assert changed[y - 3 : y + 3, x - 9 : x + 9, 0].mean() > 5
    assert changed[y - 3 : y + 3, x - 9 : x + 9, 1].mean() < -10
    assert np.abs(changed[: y - 25]).max() == 0
    spot = SplineEdit(moves, NO_COLOUR, ((0.4, 0.5, 0.02, 0.4),))
    x, y = Frame.of(camera.landmarks).place(np.array([0.4, 0.5])).astype(int)
    assert (edited("splines", pixels, camera, spot).astype(int) - pixels)[y, x].mean() < -25
    hidden = pixels.copy()
    hidden[y - 8 : y + 8, x - 8 : x + 8] = (30, 60, 160)  # not skin
    assert np.array_equal(edited("splines", hidden, camera, spot), hidden)
