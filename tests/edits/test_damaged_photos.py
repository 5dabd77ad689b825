"""Photographs that cannot be decoded are left out of edited data sets, not their end."""

import pytest

from twin_dcal.edits import landmarks
from twin_dcal.edits.looking import LeftOut, Limits, camera_of, look


@pytest.fixture
def damaged(damaged_faces):
    return damaged_faces / "train" / "0a" / "2.png"


def test_such_a_photograph_is_left_out_with_a_reason(damaged):
    assert look(damaged, None, Limits()) == LeftOut(damaged, "cannot be read")


def test_it_has_no_landmarks_and_is_named(damaged, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(landmarks, "new_detector", lambda: None)
    for _ in range(2):
        (kept,) = landmarks.kept_landmarks([damaged], tmp_path)
        assert kept.found is None
        assert camera_of(kept.found, Limits()) == "no face found"
    assert caplog.text.count(f"left out: {damaged}: truncated or damaged") == 1, "kept for later runs"
