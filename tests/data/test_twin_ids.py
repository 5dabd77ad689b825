"""Ids of twin pairs that fit nobody, or nearly somebody: named, refused, and never a reason to part twins."""

import json
import unicodedata

import pytest

from twin_dcal.config import DataConfig
from twin_dcal.data.manifest import load_face_data, load_face_set, read_face_set
from twin_dcal.data.twin_ids import fit_pairs
from twin_dcal.errors import ManifestError

TWINS = [(f"{7200 + 2 * number:05}", f"{7201 + 2 * number:05}") for number in range(6)]
ZOE = unicodedata.normalize("NFC", "Zoë")


@pytest.mark.parametrize(
    ("written", "person"),
    [
        ("7202", "07202"), (" 07202", "07202"), ("07202 ", "07202"), ("ANNA", "anna"),
        (unicodedata.normalize("NFD", "Zoë"), ZOE), ("0", "000"),
    ],
)  # fmt: skip
def test_an_id_that_is_written_otherwise_is_suggested(written, person):
    fit = fit_pairs([("a", "b"), (written, "c")], ["a", "b", "c", person])
    assert fit.unknown == (written,)
    assert fit.near == {written: (person,)}
    assert set(fit.alone) == {"c", person}
    assert f"{written!r}" in fit.described()[0]
    assert f"(the data set has {person!r}" in fit.described()[0]


def test_two_spellings_that_look_the_same_are_told_apart():
    (told,) = fit_pairs([("a", unicodedata.normalize("NFD", ZOE))], ["a", ZOE]).described()
    composed, apart = (unicodedata.normalize(form, ZOE) for form in ("NFC", "NFD"))
    assert told == f"'{apart}' in Unicode form NFD (the data set has '{composed}' in Unicode form NFC)"


def test_an_id_that_means_nobody_is_not_suggested():
    fit = fit_pairs([("a", "b"), ("72020", "c")], ["a", "b", "c", "07202", "72021"])
    assert fit.near == {}
    assert fit.described() == ["72020"]


@pytest.fixture
def folder(tmp_path, people):
    people(tmp_path, {person: 2 for pair in TWINS for person in pair})
    return tmp_path


def write(folder, pairs):
    (folder / "twin_pairs_infor.json").write_text(json.dumps([list(pair) for pair in pairs]))


def load(folder, seed=0, **options):
    return load_face_data(DataConfig(data_dir=str(folder), **options), seed)


@pytest.mark.parametrize("read", [load, load_face_set], ids=["training", "evaluation"])
def test_pairs_that_all_fit_nobody_are_refused(folder, read):
    write(folder, [(str(int(one)), str(int(other))) for one, other in TWINS])
    with pytest.raises(ManifestError) as caught:
        read(folder)
    assert (
        "no twin pair fits (6 given), ids are not in the data set: '7200' (the data set has '07200')"
        in str(caught.value)
    )
    assert "\n" not in str(caught.value)


def test_some_that_do_not_fit_are_named_and_strict_fails(folder):
    write(folder, [*TWINS[:3], *((str(int(one)), other) for one, other in TWINS[3:])])
    expected = (
        f"3 ids left out, in a twin pair of {folder / 'twin_pairs_infor.json'} but not in the data set: "
        "'7206' (the data set has '07206'), '7208' (the data "
        "set has '07208'), '7210' (the data set has '07210'); 6 people count as strangers to their twins: 07206, "
        "07207, 07208 and 3 more"
    )
    assert expected in load(folder).summary()
    read = read_face_set(folder)
    assert read.warnings == (expected,)
    assert read.faces.num_twin_families == 3
    for reader in (load, load_face_set):
        with pytest.raises(ManifestError, match="3 ids left out") as caught:
            reader(folder, strict=True)
        assert expected in str(caught.value), "the file is named that the ids stand in"
        assert "leave out --strict" in str(caught.value)


@pytest.mark.parametrize("seed", range(8))
def test_no_drawn_split_separates_a_named_pair(folder, seed):
    write(folder, [TWINS[0], *((str(int(one)), other) for one, other in TWINS[1:4]), *TWINS[4:]])
    data = load(folder, seed, val_fraction=0.3, test_fraction=0.3)
    split_of = {person: split for split in ("train", "val", "test") for person in getattr(data, split).people}
    assert all(split_of[one] == split_of[other] for one, other in TWINS)


def test_given_splits_that_part_nearly_named_twins_are_refused(tmp_path, people):
    people(tmp_path / "train", {"07200": 2, "07202": 2, "07203": 2})
    people(tmp_path / "test", {"07201": 2})
    write(tmp_path, [("7200", "07201"), ("07202", "07203")])
    for read in (load, load_face_set):
        with pytest.raises(
            ManifestError, match=r"families in two splits: '07200' \(train\) and '07201' \(test\)"
        ):
            read(tmp_path)


def test_pairs_of_other_splits_are_rightly_unknown(tmp_path, people):
    people(tmp_path / "train", {"a": 2, "b": 2})
    people(tmp_path / "test", {"c": 2, "d": 2})
    write(tmp_path, [("a", "b"), ("c", "d")])
    read = read_face_set(tmp_path / "test", strict=True)
    assert read.warnings == ()
    assert read.faces.num_twin_families == 1
    assert read.files == ("twin_pairs_infor.json",)
    write(tmp_path, [("a", "b"), ("c", "d"), ("c", "e")])  # e is nowhere in the whole data set
    assert any("1 id left out" in text for text in load_face_set(tmp_path / "test")[1])


def test_a_split_without_twins_of_a_set_with_twins_is_fine(tmp_path, people):
    people(tmp_path / "train", {"a": 2, "b": 2})
    people(tmp_path / "test", {"c": 2, "d": 2})
    write(tmp_path, [("a", "b")])
    assert not load_face_set(tmp_path / "test")[0].has_twins


@pytest.mark.parametrize(
    ("info", "pairs", "values"),
    [
        ("dataset_infor.json", "twin_pairs_infor.json", [["a", "b"]]),
        ("id_to_images.json", "twin_pairs.json", {"twin_pairs": [["a", "b"]]}),
        ("id_to_images.json", "twin_pairs_infor.json", {"pairs": [["a", "b"]]}),
    ],
)
def test_descriptions_of_other_tools_are_found_and_named(tmp_path, people, info, pairs, values):
    people(tmp_path, {"a": 2, "b": 2, "c": 2})
    listed = {person: [f"{person}/{person}_{number}.jpg" for number in (0, 1)] for person in "abc"}
    (tmp_path / info).write_text(json.dumps(listed))
    (tmp_path / pairs).write_text(json.dumps(values))
    data = load(tmp_path, val_fraction=0, test_fraction=0)
    assert data.train.num_twin_families == 1
    assert data.summary().endswith(f"; read: {info}, {pairs}")
    read = read_face_set(tmp_path / info)
    assert read.faces.num_twin_families == 1
    assert read.files == (info, pairs)


def test_twin_pairs_by_split_of_other_tools_give_the_split(tmp_path, people):
    people(tmp_path, dict.fromkeys("abcd", 2))
    listed = {person: [f"{person}/{person}_{number}.jpg" for number in (0, 1)] for person in "abcd"}
    (tmp_path / "id_to_images.json").write_text(json.dumps(listed))
    (tmp_path / "train_twin_pairs.json").write_text('[["a", "b"]]')
    (tmp_path / "test_twin_pairs.json").write_text('[["c", "d"]]')
    data = load(tmp_path, val_fraction=0)
    assert (data.train.people, data.test.people) == (("a", "b"), ("c", "d"))
    assert data.summary().endswith("read: id_to_images.json, train_twin_pairs.json, test_twin_pairs.json")


def test_a_family_stays_one_where_the_common_twin_is_missing():
    fit = fit_pairs([("a", "b"), ("b", "c"), ("d", "e")], ["a", "c", "d", "e"])
    assert fit.among(["a", "c", "d", "e"]) == [("d", "e"), ("a", "c")]
    assert fit.among(["a", "d"]) == []
    assert fit.num_families == 2
