"""Frames of a video: which are given, upright and in their colours; what keeps a file from being read, in one line."""

import os
import struct
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra 'video'")

import av
from made_videos import corners, write_sound, write_video

from twin_dcal.data import video
from twin_dcal.data.decode import decode_pixels
from twin_dcal.data.video import Spread, is_video, spread_frames
from twin_dcal.errors import CostlyImageError, ImageError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def is_like(pixel, colour):
    return np.abs(np.asarray(pixel, int) - colour).max() < 60


def read(path):
    """Its frames, or an ImageError in one line that begins with the path."""
    try:
        return spread_frames(path)
    except ImageError as error:
        if not str(error).startswith(f"{path}: ") or "\n" in str(error):
            raise AssertionError(str(error)) from error
        raise


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Three seconds."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_video(path, [corners(number) for number in range(30)], sound=True)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mov", "mpeg4"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx"),
        ("a.avi", "mjpeg"),
        ("a.mp4", "libx264"),
    ],
)
def test_usual_videos_are_read_whatever_they_are_called(tmp_path, name, codec):
    path = write_video(tmp_path / name, [corners(number) for number in range(4)], codec=codec)
    other = path.rename(tmp_path / "video")
    assert is_video(other)
    assert is_video(str(other))
    frames = read(other)
    assert [frame.pixels.shape for frame in frames] == [(64, 96, 3)] * 4
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3])
    for frame in frames:
        assert is_like(frame.pixels[10, 10], RED)
        assert is_like(frame.pixels[-10, -10], BLUE)


def test_of_a_longer_one_the_sharpest_frame_of_each_part_is_given(clip, tmp_path):
    told = [frame.seconds for frame in read(clip)]
    assert video.NUM_SPREAD <= len(told) < 2 * video.NUM_SPREAD
    assert told == sorted(told)
    assert (told[0], told[-1] > 2.6) == (0, True)
    assert max(np.diff(told)) < 0.4
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (64, 96, 3), np.uint8)
    path = write_video(
        tmp_path / "a.mkv", [sharp if number in (7, 22) else corners() for number in range(30)]
    )
    best = sorted(read(path), key=lambda frame: -frame.sharpness)[:2]
    assert sorted(frame.seconds for frame in best) == pytest.approx([0.7, 2.2])


def test_parts_are_of_equal_time_and_keep_their_best():
    rng = np.random.default_rng(0)
    for count in (1, 5, 19, 20, 300):
        times = np.cumsum(rng.choice([0.01, 0.04, 0.3], count))
        goodness = rng.random(count)
        kept = Spread(10)
        for at, good in zip(times, goodness, strict=True):
            kept.add(float(at - times[0]), float(good), round(float(at), 9))
        found = kept.best()
        step = 0.02 * 2 ** next(
            power for power in range(60) if len({int((at - times[0]) / (0.02 * 2**power)) for at in times}) < 20
        )  # fmt: skip
        parts = {}
        for at, good in zip(times, goodness, strict=True):
            part = int((at - times[0]) / step)
            parts[part] = max(parts.get(part, (-1, 0)), (good, at))
        assert [round(at + times[0], 6) for at, _, _ in found] == [
            round(at, 6) for _, (_, at) in sorted(parts.items())
        ]
        assert len(found) < 20


def turned(path, a, b, c, d):
    """The file with another matrix of how it is shown."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda pixels: pixels),
        ((0, 1, -1, 0), lambda pixels: np.rot90(pixels, -1)),  # a telephone held upright
        ((-1, 0, 0, -1), lambda pixels: np.rot90(pixels, 2)),
        ((0, -1, 1, 0), lambda pixels: np.rot90(pixels)),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda pixels: pixels.transpose(1, 0, 2)),
    ],
    ids=["as it is", "90", "180", "270", "mirrored", "upside down", "transposed"],
)
def test_a_frame_is_upright_as_the_file_says(tmp_path, matrix, shown):
    path = write_video(tmp_path / "a.mp4", [corners()])
    (plain,) = read(path)
    (frame,) = read(turned(path, *matrix))
    assert frame.pixels.tolist() == shown(plain.pixels).tolist()


def test_times_are_those_of_the_frames_at_a_rate_that_varies(tmp_path):
    times = [0, 0.05, 0.4, 2.5, 2.6]
    path = write_video(tmp_path / "a.mkv", [corners(number) for number in range(5)], seconds=times)
    assert [frame.seconds for frame in read(path)] == pytest.approx(times, abs=0.002)


def test_a_duration_that_the_header_makes_up_is_not_believed(clip, tmp_path):
    data = bytearray(clip.read_bytes())
    for box, offset in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        at = data.index(box) + offset
        data[at : at + 4] = b"\x7f\xff\xff\xff"
    lying = tmp_path / "a.mp4"
    lying.write_bytes(data)
    assert [frame.seconds for frame in read(lying)] == [frame.seconds for frame in read(clip)]


def test_what_is_no_video_is_one_line(clip, tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        read(tmp_path / "gone.mp4")
    with pytest.raises(ImageError, match="a folder, not a video file"):
        read(tmp_path)
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(ImageError, match="a pipe or a device, not a video file"):
        read(pipe)
    assert not is_video(pipe)
    assert not is_video("https://example.org/a.mp4")
    for text in (b"#EXTM3U\n#EXTINF:1,\n%s\n", b"ffconcat version 1.0\nfile '%s'\n", b"", b"<smil/>"):
        listed = tmp_path / "list.mp4"
        listed.write_bytes(text % bytes(clip) if b"%" in text else text)
        assert not is_video(listed)
        with pytest.raises(ImageError, match=r"not a video \(MP4, MOV, MKV, WebM and AVI are read\)"):
            read(listed)


@pytest.mark.parametrize("start", [b"\0\0\0\x18ftypisom", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI "])
def test_a_list_of_files_behind_the_first_bytes_of_a_video_is_refused(clip, tmp_path, start):
    path = tmp_path / "a.mp4"
    path.write_bytes(start + b"\n#EXTM3U\n#EXTINF:1,\n" + bytes(clip) + b"\n" + bytes(300))
    with pytest.raises(ImageError, match=r"truncated or damaged|no moving pictures"):
        read(path)


def test_files_without_pictures_are_one_line(tmp_path):
    with av.open(str(tmp_path / "sound.mkv"), "w") as file:
        write_sound(file)
    with pytest.raises(ImageError, match="no moving pictures in it, only sound or data"):
        read(tmp_path / "sound.mkv")
    path = write_video(tmp_path / "a.mkv", [corners()])
    empty = tmp_path / "empty.mkv"
    empty.write_bytes(path.read_bytes()[: path.read_bytes().index(b"\x1f\x43\xb6\x75")])
    with pytest.raises(ImageError, match="no picture in it can be decoded|truncated or damaged"):
        read(empty)


def test_damaged_and_encrypted_videos_are_one_line(tmp_path):
    frames = [np.random.default_rng(number).integers(0, 256, (64, 96, 3), np.uint8) for number in range(12)]
    path = write_video(tmp_path / "a.mp4", frames, codec="libx264")
    data = path.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"truncated or damaged \(.*\)\. Restore the file"):
        read(cut)
    begin, rng = data.index(b"mdat") + 1000, np.random.default_rng(0)
    spoiled = bytearray(data)
    for at in range(begin, data.index(b"moov") - 4, 50):
        spoiled[at] ^= int(rng.integers(1, 256))
    path.write_bytes(spoiled)
    with pytest.raises(ImageError, match=r"truncated or damaged \(\d+ of \d+ parts cannot be decoded\)"):
        read(path)
    keys = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": 32 * "a", "encryption_kid": 32 * "b"}
    secret = write_video(tmp_path / "secret.mp4", frames, codec="libx264", options=keys)
    with pytest.raises(ImageError, match=r"encrypted\. Save it anew without protection"):
        read(secret)


def test_pictures_of_other_kinds_are_refused_by_name(tmp_path):
    path = write_video(tmp_path / "a.mkv", [corners()], codec="ffv1")
    with pytest.raises(ImageError, match=r"its pictures are coded as .*, which is not read"):
        read(path)


def test_what_is_large_or_long_is_refused_before_it_costs_much(clip, monkeypatch):
    monkeypatch.setattr(video, "MAX_PIXELS", 10 * 64 * 96)
    with pytest.raises(ImageError, match="longer than a video may be"):
        read(clip)
    monkeypatch.setattr(video, "MAX_FRAME_PIXELS", 6000)
    with pytest.raises(ImageError, match="frames of 96x64 have more than 6,000 pixels"):
        read(clip)


def test_one_that_takes_long_is_ended(clip, monkeypatch):
    hang = "import twin_dcal.data.video as v\ndef hang(*_):\n  while True: pass\nv._decoded = hang\nv.decode_in_child()"
    monkeypatch.setattr(video, "_CHILD", hang)
    monkeypatch.setattr(video, "_CPU_SECONDS", 2)
    with pytest.raises(CostlyImageError, match=r"would take too long to decode \(more than 2 s\)"):
        read(clip)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_the_process_that_decodes_can_open_nothing():
    code = (
        "import socket\nfrom twin_dcal.data.video import _limit\n_limit()\n"
        "for attempt in (lambda: open(__import__('os').devnull), socket.socket, lambda: bytearray(2**33)):\n"
        "    try: attempt()\n"
        "    except (OSError, MemoryError) as error: print(type(error).__name__)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.split() == ["OSError", "OSError", "MemoryError"], ended.stderr


def test_without_pyav_the_extra_is_named(clip, monkeypatch):
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    with pytest.raises(ImageError, match=r"a video\. Reading it needs pip install 'twin-dcal\[video\]'"):
        read(clip)


def test_where_an_image_is_meant_a_video_is_called_one(clip):
    with pytest.raises(
        ImageError, match=r"^x: a video, not an image\. Videos are taken from files by engine\.verify"
    ):
        decode_pixels(clip.read_bytes(), "x")
