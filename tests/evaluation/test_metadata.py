"""metadata.py: people and images of a table found among those compared; what fits nobody is told."""

import math
from dataclasses import replace

import numpy as np
import pytest
from made_faces import faces

from twin_dcal.errors import MetricError
from twin_dcal.evaluation.metadata import find_metadata, metadata_of, read_metadata


@pytest.fixture
def comparisons():
    """F00a, F00b, F01a, F01b with two images each."""
    return faces(2, images_each=2)[0]


def read(tmp_path, text, comparisons):
    path = tmp_path / "metadata.csv"
    path.write_text(text)
    return read_metadata(path, comparisons)


def test_a_line_holds_for_all_images_of_a_person_and_an_image_comes_first(tmp_path, comparisons):
    found = read(
        tmp_path,
        "person,image,zygosity,sex,age,session,date,quality\n"
        "F00a,,MZ,F,31,one,2024-05-31,\n"
        "F01b,,dizygotic,m,,,,\n"
        ",F00a/1.jpg,,,32.5,two,,0.25\n"
        "F00b,F00b/0.jpg,,,,,,0.5\n",
        comparisons,
    )
    assert found.texts["zygosity"].tolist() == ["identical"] * 2 + [""] * 4 + ["fraternal"] * 2
    assert found.texts["sex"].tolist() == ["f"] * 2 + [""] * 4 + ["m"] * 2
    assert found.texts["session"].tolist() == ["one", "two", *[""] * 6]
    assert found.numbers["age"][:2].tolist() == [31, 32.5]
    assert np.isnan(found.numbers["age"][2:]).all()
    days = found.numbers["date"]
    assert days[0] == days[1]
    assert math.isnan(days[2])
    assert found.numbers["quality"][[1, 2]].tolist() == [0.25, 0.5]
    assert set(found.texts) | set(found.numbers) == {"zygosity", "sex", "age", "session", "date", "quality"}
    assert found.num_images_known == 5
    assert (found.notes, found.warnings) == ((), ())


def test_those_not_compared_are_noted_and_ids_written_otherwise_are_a_warning(tmp_path, comparisons):
    text = "person;sex\nF00a;f\n f00B;f\nF07a;m\nF07b;m\n"
    found = read(tmp_path, text, comparisons)
    assert found.notes == ("metadata.csv: 2 people not among those compared: F07a, F07b",)
    (warning,) = found.warnings
    assert "1 id fits nobody: 'f00B' (the data set has 'F00b')" in warning
    assert found.texts["sex"].tolist() == ["f", "f", *[""] * 6]
    images = read(tmp_path, "path,pose\nF00a/0.jpg,left\nF00a/9.jpg,left\n", comparisons)
    assert images.notes == ("metadata.csv: 1 image not among those compared: F00a/9.jpg",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("person,hair\nF00a,red\n", "none of the columns zygosity"),
        ("name,sex\nF00a,f\n", "no column 'person' or 'image'"),
        (
            "person,zygosity\nF00a,twins\n",
            r"line 2: zygosity 'twins'; give identical \(mz\) or fraternal \(dz\)",
        ),
        ("person,age\nF00a,old\n", "line 2: age 'old'; give years, 0 to 130"),
        ("person,age\nF00a,-4\n", "line 2: age '-4'"),
        ("person,date\nF00a,31.5.2024\n", "a day such as 2024-05-31"),
        ("person,quality\nF00a,nan\n", "quality 'nan'; give a number"),
        ("person,sex\nF00a,f\nF00a,m\n", "line 3: person 'F00a' has the sex m here and f in a line before"),
        ("person,image,sex\nF00b,F00a/0.jpg,f\n", "is of person 'F00b' here, of 'F00a' in made"),
        ("image,sex\n0.jpg,f\n", "'0.jpg' fits several images"),
        ("person,sex\n,f\n", "line 2: neither a person nor an image"),
        ("person,sex\n90001,f\n", "nobody who is compared is named there. It names: 90001"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, comparisons, text, reason):
    with pytest.raises(MetricError, match=reason):
        read(tmp_path, text, comparisons)


def test_it_is_found_beside_the_data(tmp_path, comparisons):
    (tmp_path / "data" / "test").mkdir(parents=True)
    assert find_metadata([None, str(tmp_path / "data" / "test")]) is None
    path = tmp_path / "data" / "metadata.csv"
    path.write_text("person,sex\nF00a,f\n")
    for place in ("data", "data/test", "data/dataset_infor.json"):
        assert find_metadata([None, str(tmp_path / place)]) == path
    made, told = metadata_of(comparisons, None, [str(tmp_path / "data")])
    assert made.file == str(path)
    assert told == ()


def test_named_and_useless_is_an_error_found_and_useless_a_warning(tmp_path, comparisons):
    path = tmp_path / "metadata.csv"
    path.write_text("image,label\na.jpg,3\n")  # of somebody else's making
    with pytest.raises(MetricError, match="none of the columns"):
        metadata_of(comparisons, str(path), [])
    made, (told,) = metadata_of(comparisons, None, [str(tmp_path)])
    assert made is None
    assert "beside the data is not used" in told
    assert metadata_of(comparisons, None, [None, str(tmp_path / "elsewhere" / "x")]) == (None, ())
    with pytest.raises(MetricError, match="does not say whose images"):
        read_metadata(path, replace(comparisons, people=None))
