"""joining.py: names of other systems find their images, and nothing is guessed."""

import os
from unicodedata import normalize

import pytest

from twin_dcal.errors import MetricError
from twin_dcal.evaluation.match_names import rows_of_images, rows_of_names, short_ids

IMAGES = [f"/data/set/test/{person}/{photo}.jpg" for person in ("90004", "90005") for photo in ("d13", "d14")]


def joined(names, images=IMAGES):
    return rows_of_images(names, images, "e.npz", "set").tolist()


@pytest.mark.parametrize(
    "written",
    [
        IMAGES,
        ["/kaggle/input/nd-twin/ND/test/" + name.removeprefix("/data/set/test/") for name in IMAGES],
        ["C:\\faces\\" + name.removeprefix("/data/set/test/").replace("/", "\\") for name in IMAGES],
        [name.removeprefix("/data/set/test/") for name in IMAGES],
        [name.removeprefix("/data/set/test/").removesuffix(".jpg") for name in IMAGES],
        ["./" + name.removeprefix("/data/set/") for name in IMAGES],
    ],
    ids=["same", "other machine", "windows", "below", "without ending", "relative"],
)
def test_names_of_another_system_find_their_images(written):
    assert joined(written[::-1]) == [3, 2, 1, 0]


def test_bare_ids_do_where_they_are_unique():
    images = ["/data/a/90004d13.jpg", "/data/b/90005d02.png"]
    assert joined(["90005d02", "90004d13"], images) == [1, 0]
    assert joined(["90005d02.png", "90004d13.jpg"], images) == [1, 0]
    assert rows_of_names(["90005d02", "90005d02"], images, "s.csv", "set").tolist() == [1, 1]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_both_unicode_forms_of_a_name_are_one_name(forms):
    images = [normalize(forms[0], f"/data/set/José/{photo}.jpg") for photo in (1, 2)]
    written = [normalize(forms[1], name) for name in images]
    assert written != images
    assert joined(written[::-1], images) == [1, 0]
    assert rows_of_names([normalize(forms[1], "José/2")], images, "s.csv", "set").tolist() == [1]


def test_another_ending_is_another_file():
    with pytest.raises(MetricError, match="2 of 2 images"):
        joined(["a/1.png", "b/1.png"], ["/data/a/1.jpg", "/data/b/1.jpg"])


def test_a_bare_name_that_fits_several_images_is_an_error():
    with pytest.raises(
        MetricError, match=r"^e\.npz: 'd13\.jpg' fits several images of set\. Name images by more"
    ):
        joined([*IMAGES, "d13.jpg"])
    with pytest.raises(MetricError, match="fits several"):
        rows_of_names(["d13"], IMAGES, "s.csv", "set")


def test_images_of_other_folders_are_not_taken_for_those_of_the_set():
    """train/90004/d13.jpg shares its end with test/90004/d13.jpg; the whole path below the folder decides."""
    more = [name.replace("/test/", "/train/") for name in IMAGES]
    assert joined([*more, *IMAGES]) == [4, 5, 6, 7]
    with pytest.raises(
        MetricError, match=r"3 of 4 images of set missing, first: /data/set/test/90004/d14\.jpg"
    ):
        joined([IMAGES[0], "/other/90006/d14.jpg", "x/d14"])
    assert joined(["elsewhere/d13.jpg", *IMAGES]) == [1, 2, 3, 4]
    with pytest.raises(MetricError, match="2 of 2 images"):
        joined(["/else/c/x.jpg", "/else/c/y.jpg"], ["/data/a/x.jpg", "/data/b/y.jpg"])


def test_one_image_named_twice_is_an_error_and_the_longer_name_wins():
    with pytest.raises(
        MetricError, match=r"'\S*90004/d13\.jpg' and '\S*90004/d13' are both /data/set/test/90004/d13"
    ):
        joined([*IMAGES[1:], "90004/d13.jpg", "90004/d13"])
    assert joined(["90004/d13.jpg", *IMAGES]) == [1, 2, 3, 4]
    assert joined([*IMAGES, "90004/d13.jpg"]) == [0, 1, 2, 3]
    assert joined(["90004/d13", "90004/d13.jpg", *IMAGES]) == [2, 3, 4, 5]


def test_names_without_an_image_are_an_error():
    with pytest.raises(MetricError, match=r"s\.csv: 1 of 2 images not in set, first: nobody\.jpg"):
        rows_of_names([IMAGES[0], "nobody.jpg"], IMAGES, "s.csv", "set")


def test_relative_paths_of_the_set_are_those_below_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    absolute = [os.path.join(tmp_path, "f", person, "0.jpg") for person in "ab"]  # noqa: PTH118
    assert joined(absolute, ["f/a/0.jpg", "f/b/0.jpg"]) == [0, 1]
    assert joined(["f/a/0.jpg", "f/b/0.jpg"], absolute) == [0, 1]


def test_short_ids_leave_out_the_common_folder():
    assert short_ids(IMAGES) == ["90004/d13.jpg", "90004/d14.jpg", "90005/d13.jpg", "90005/d14.jpg"]
    assert short_ids(["/a/b/c.jpg"]) == ["c.jpg"]
    assert short_ids(["c", "d"]) == ["c", "d"]
    assert short_ids([]) == []
    assert short_ids(["/a/b/1.jpg", "/a/bc/1.jpg", "/a/1.jpg"]) == ["b/1.jpg", "bc/1.jpg", "1.jpg"]
