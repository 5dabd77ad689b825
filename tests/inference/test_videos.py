"""Videos among photographs: which frames are taken, and that they are decided like photographs."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra 'video'")

import torch
from made_videos import corners, write_video
from tiny import tiny_model

from twin_dcal import TwinInferenceEngine
from twin_dcal.cli.verify import main
from twin_dcal.data.video import VideoFrame, spread_frames
from twin_dcal.errors import ConfigError, ImageError
from twin_dcal.inference import videos
from twin_dcal.inference.aligning import FaceInfo
from twin_dcal.metrics.calibration import Platt
from twin_dcal.metrics.error_curve import ErrorCurve, Threshold
from twin_dcal.metrics.pairs import PairScores
from twin_dcal.metrics.templates import TemplateDecision
from twin_dcal.metrics.thresholds import counted
from twin_dcal.verify.session import Session

ORIGIN = {"data": "validation", "criterion": "eer", "impostors": "twin", "fmr": 0.25, "fnmr": 0.25}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    torch.manual_seed(0)
    scores = PairScores(
        *(np.linspace(*ends, 200, dtype=np.float32) for ends in ((0.5, 1), (0, 0.9), (0, 0.6), (0, 0.1)))
    )
    known = Platt(9.0, -6.0, 0.5, 10, 10, "x"), ErrorCurve.of(counted(scores), "drawn")
    for_five = TemplateDecision("mean", (1, 5), Threshold(0.8, ORIGIN), *known)
    path = tiny_model(
        tmp_path_factory.mktemp("videos"), threshold=Threshold(0.5, ORIGIN), templates=(for_five,)
    )
    return TwinInferenceEngine(path, "cpu", align="never")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_video(path, [corners(number) for number in range(30)])


@pytest.fixture(scope="module")
def photo(tiny_faces):
    return min(tiny_faces.glob("test/*/*.png"))


def test_a_video_is_decided_as_its_frames_are(engine, clip, photo):
    result = engine.verify(clip, str(photo))
    names = [each["path"] for each in result.photographs[0]]
    assert (result.sizes, len(set(names))) == ((5, 1), 5)
    assert result.threshold == 0.8
    assert result.threshold_source["photographs"] == [1, 5]
    frames = {f"{clip} at {frame.seconds:.2f} s": frame for frame in spread_frames(clip)}
    fifths = [int(5 * frames[name].seconds / 2.9) for name in names]
    assert fifths == [0, 1, 2, 3, 4] or fifths == [0, 1, 2, 3, 5]  # the last frame ends the last part
    same = engine.verify([frames[name].pixels for name in names], str(photo))
    assert result.similarity == same.similarity
    for one, other in zip(result.photographs[0], same.photographs[0], strict=True):
        assert {**one, "path": None} == {**other, "path": None}
    assert "img1: frames of one video differ less" in " ".join(set(result.warnings) - set(same.warnings))
    both = engine.verify([str(clip), photo], photo)
    assert (both.sizes, both.photographs[0][5]["path"]) == ((6, 1), str(photo))


def frame(seconds, sharpness=1.0, grey=0):
    return VideoFrame(seconds, sharpness, np.full((8, 8, 3), grey, np.uint8))


def stub(quality_of):
    """Prepares a picture as one with a face of this quality; ImageError where that is None."""

    def prepare(picture):
        quality = quality_of(int(picture.image[0, 0, 0]))
        if quality is None:
            raise ImageError(f"{picture.called}: no face found")
        return SimpleNamespace(seen=FaceInfo(quality and {"quality": quality}))

    return SimpleNamespace(prepare=prepare)


def chosen(monkeypatch, embed, frames):
    monkeypatch.setattr(videos, "is_video", lambda image: True)
    monkeypatch.setattr(videos, "spread_frames", lambda path: frames)
    pictures, names, _ = videos.as_photographs(embed, ["a/b.mp4"], "img1", "largest", False)
    assert [picture.path for picture in pictures] == [f"a/{name}" for name in names]
    return [float(name.split()[2]) for name in names]


def test_the_best_face_of_each_part_is_taken_not_the_sharpest_picture(monkeypatch):
    frames = [frame(at / 2, sharpness=20 - at, grey=at) for at in range(20)]

    def quality(at):
        return {"score": 0.9 if at % 4 == 2 else 0.7, "turn": 0.0, "sharpness": 1.0}

    assert chosen(monkeypatch, stub(quality), frames) == [1, 3, 5, 7, 9]
    monkeypatch.setattr(videos, "MAX_FRAMES", 2)
    assert chosen(monkeypatch, stub(quality), frames) == [1, 5]


def test_without_faces_looked_for_the_sharpest_picture_is_taken(monkeypatch):
    frames = [frame(at / 2, sharpness=at % 4 == 1, grey=at) for at in range(20)]
    assert chosen(monkeypatch, stub(lambda at: {}), frames) == [0.5, 2.5, 4.5, 6.5, 8.5]


def test_parts_without_a_face_are_left_out(monkeypatch):
    good = {"score": 0.9, "turn": 0.0, "sharpness": 1.0}
    frames = [frame(at / 2, grey=at) for at in range(20)]
    assert chosen(monkeypatch, stub(lambda at: good if at in (6, 19) else None), frames) == [3, 9.5]
    assert chosen(monkeypatch, stub(lambda at: good), [frame(0)]) == [0]
    with pytest.raises(ImageError) as caught:
        chosen(monkeypatch, stub(lambda at: None), frames)
    assert str(caught.value) == (
        "a/b.mp4: none of 20 frames that were looked at can be used; first: a/b.mp4 at 0.00 s: no face found"
    )


def test_an_unlike_frame_is_called_by_its_time(engine, clip, tmp_path):
    rng = np.random.default_rng(0)
    other = rng.integers(0, 256, (64, 96, 3), np.uint8)
    path = write_video(
        tmp_path / "b.mp4", [other if at == 9 else corners() for at in range(10)], codec="mpeg4"
    )
    engine = TwinInferenceEngine(engine.source.path, "cpu", threshold=0.999, align="never")
    told = " ".join(engine.verify(path, clip).warnings)
    assert "img1: b.mp4 at " in told
    assert "look" in told


def test_a_gallery_is_searched_with_a_video_but_enrolls_none(engine, clip, photo):
    gallery = engine.enroll({"al": [photo]})
    found = gallery.search(clip)
    assert [hit.person for hit in found.hits] == ["al"]
    assert any("frames of one video" in text for text in found.warnings)
    assert gallery.verify(clip, "al").sizes == (5, 1)
    left_out = engine.enroll({"al": [photo], "bo": [clip]}).left_out
    assert ["a video, not an image" in reason for reason in left_out] == [True]


def test_pairs_and_lists_take_no_video(engine, clip, photo):
    with pytest.raises(ImageError, match="clip.mp4: a video, not an image"):
        engine.verify_pair(photo, clip)
    (row,) = engine.batch_verify([(clip, photo)])
    assert "a video, not an image" in row["error"]
    with pytest.raises(ImageError, match="img1: a video, not an image"):
        engine.verify(clip.read_bytes(), photo)


def test_on_the_command_line(engine, clip, photo, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["--model", engine.source.path, "--align", "never", "--img1", str(clip), "--img2", str(photo)]
    code = main(given)
    out = capsys.readouterr().out
    assert code in (0, 1)
    assert "first 5" in out
    assert f"{clip} at 0." in out
    assert main([*given, "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert (told["sizes"], told["fuse"]) == ([5, 1], "quality")
    assert main([*given, "--show_attention"]) == 2
    assert "a video is several" in capsys.readouterr().err
    assert "first 5" in Session(engine, tmp_path).answer(f"verify {clip} {photo}")
    with pytest.raises(ConfigError, match="a video is several"):
        Session(engine, tmp_path, attention=True).told_pair(str(clip), str(photo))
