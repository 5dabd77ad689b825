"""JPEG files that libjpeg completes with grey or noise are damaged, wherever they are read."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from twin_dcal.data import jpeg
from twin_dcal.data.decode import damage, decode_pixels
from twin_dcal.data.manifest import load_face_set
from twin_dcal.errors import ImageError, ManifestError
from twin_dcal.inference.images import read_pixels

END = b"\xff\xd9"
MODES = ["RGB", "L", "CMYK"]


def photo(mode="RGB", size=(160, 144), **options):
    """A JPEG of noise on a smooth picture, whose scans have data everywhere."""
    rng = np.random.default_rng(3)
    smooth = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    noisy = np.clip(np.asarray(smooth) + rng.normal(0, 12, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).convert(mode).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    ("mode", "progressive", "share"), list(itertools.product(MODES, [False, True], [0.3, 0.6, 0.99]))
)
def test_a_scan_that_is_cut_but_ends_with_the_end_mark(mode, progressive, share):
    data = photo(mode, progressive=progressive)
    cut = data[: int(len(data) * share)] + END
    with pytest.raises(ImageError, match=r"^photo: truncated or damaged \(.*\)\. Restore the file\.$"):
        decode_pixels(cut, "photo")
    assert decode_pixels(data, "photo").shape == (144, 160, 3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 5}])
def test_data_missing_or_zeroed_in_the_middle(mode, options):
    data = photo(mode, **options)
    at = len(data) * 3 // 5
    broken = [data[:at] + data[at + 900 :]]
    if "progressive" not in options:  # zeros in a scan that refines others may be a scan too
        broken.append(data[:at] + bytes(900) + data[at + 900 :])
    for damaged in broken:
        with pytest.raises(ImageError, match=r"truncated or damaged"):
            decode_pixels(damaged, "photo")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 5}, {"subsampling": 0}]
)
@pytest.mark.parametrize("size", [(1, 1), (17, 23), (160, 144)])
def test_sound_files_give_pillow_s_pixels(mode, options, size):
    if mode != "RGB":
        options = {key: value for key, value in options.items() if key != "subsampling"}
    data = photo(mode, size, **options)
    assert np.array_equal(decode_pixels(data, "photo"), by_pillow(data))


@pytest.mark.parametrize("turn", range(1, 9))
def test_sound_files_are_turned_upright_as_by_pillow(turn, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = photo(exif=exif)
    ours = decode_pixels(data, "photo")
    monkeypatch.setattr(jpeg, "_decoder", lambda: None)
    assert np.array_equal(ours, decode_pixels(data, "photo"))


def test_what_some_cameras_write_around_the_scan_is_no_damage():
    data = photo()
    assert data.endswith(END)
    for odd in (data[:-2] + b"\0\0" + END, data + b"\0" * 5000, data[:2] + b"\xff\xfe\0\4ab" + data[2:]):
        assert np.array_equal(decode_pixels(odd, "photo"), by_pillow(data))


def test_an_open_file_of_pillow_and_its_bytes_are_refused_alike():
    data = photo()
    cut = data[: len(data) // 2] + END
    for source in (cut, io.BytesIO(cut), Image.open(io.BytesIO(cut))):
        with pytest.raises(ImageError, match=r"truncated or damaged \(premature end of data segment\)"):
            read_pixels(source)


def test_strict_reading_names_the_file(tmp_path, people):
    people(tmp_path / "faces", {"a": 3, "b": 3})
    path = tmp_path / "faces" / "a" / "a_1.jpg"
    data = photo()
    path.write_bytes(data[: len(data) // 2] + END)
    assert damage(path) is None, "its first and last bytes are in order"
    assert damage(path, thorough=True) == "truncated or damaged"
    with pytest.raises(ManifestError, match=r"1 image left out, truncated or damaged: \S*a/a_1\.jpg"):
        load_face_set(tmp_path / "faces", strict=True)


def test_without_the_second_decoder_pillow_decodes_alone(monkeypatch):
    data = photo()
    monkeypatch.setattr(jpeg, "_decoder", lambda: None)
    assert np.array_equal(decode_pixels(data, "photo"), by_pillow(data))
