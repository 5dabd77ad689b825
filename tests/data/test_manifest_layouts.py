"""Each layout a data set may have, and where its split and twins come from."""

import random
import shutil
import subprocess
import sys

import numpy as np
import pytest

from twin_dcal.config import DataConfig
from twin_dcal.data.manifest import FaceSet, load_face_data, load_face_set, write_split
from twin_dcal.errors import ManifestError

EIGHT = dict.fromkeys("abcdefgh", 3)
TWINS = [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]]


def load(folder=None, seed=0, **options):
    return load_face_data(DataConfig(data_dir=str(folder) if folder else None, **options), seed)


def split_people(data):
    return {split: set(getattr(data, split).people) for split in ("train", "val", "test")}


def twins_of(faces):
    families = {}
    for person, family in zip(faces.people, faces.family_of, strict=True):
        families.setdefault(family, []).append(person)
    return sorted(families.values())


def test_split_folders(tmp_path, people):
    people(tmp_path / "train", {"a": 3, "b": 2})
    people(tmp_path / "val", {"c": 1})
    people(tmp_path / "test", {"d": 4})
    data = load(tmp_path)
    assert split_people(data) == {"train": {"a", "b"}, "val": {"c"}, "test": {"d"}}
    assert data.train.num_images == 5
    assert data.train.person_of.tolist() == [0, 0, 0, 1, 1]
    assert [path.name for path in data.train.paths] == ["a_0.jpg", "a_1.jpg", "a_2.jpg", "b_0.jpg", "b_1.jpg"]
    assert any("no twin pairs" in finding for finding in data.findings)
    assert not data.train.has_twins


def test_a_missing_split_folder_is_carved_from_train_by_family(tmp_path, people, write_json):
    people(tmp_path / "train", EIGHT)
    people(tmp_path / "test", {"x": 2})
    write_json(tmp_path / "twin_pairs_infor.json", TWINS)
    data = load(tmp_path, val_fraction=0.25)
    assert data.val.num_people == 2
    assert data.val.num_twin_families == 1
    assert data.test.people == ("x",)
    assert data.train.num_people == 6
    assert any(
        "no val split in the data set: 0.25 of the training families" in finding for finding in data.findings
    )


def test_flat_folders_any_extension_case(tmp_path, people, jpeg):
    people(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "UPPER.JPEG").write_bytes(jpeg)
    data = load(tmp_path, val_fraction=0, test_fraction=0)
    assert data.train.images_per_person == (2, 2.5, 3)
    assert data.val.num_people == data.test.num_people == 0


def test_hidden_files_and_clutter_are_no_finding(tmp_path, people):
    people(tmp_path, {"a": 2, "b": 2, ".cache": 1})
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    data = load(tmp_path, strict=True, val_fraction=0, test_fraction=0)
    assert data.train.people == ("a", "b")


def test_json_paths_relative_to_the_file_absolute_and_dotted(tmp_path, people, write_json):
    people(tmp_path / "images", {"a": 2, "b": 2, "c": 2})
    info = write_json(
        tmp_path / "lists" / "dataset_infor.json",
        {
            "a": ["../images/a/a_0.jpg", "../images/a/a_1.jpg"],
            "b": [str(tmp_path / "images/b/b_0.jpg"), str(tmp_path / "images/b/b_1.jpg")],
        },
    )
    data = load(dataset_info=str(info), val_fraction=0, test_fraction=0)
    assert data.train.people == ("a", "b")
    assert data.train.num_images == 4


@pytest.mark.parametrize(
    "prefix", ["/kaggle/input/nd-twin/x/", "elsewhere/", "C:\\faces\\", "/kaggle/input/images/"]
)
def test_foreign_paths_are_rooted_by_their_longest_suffix(tmp_path, people, write_json, prefix):
    people(tmp_path / "crops" / "images", {"90004": 2, "90005": 2})
    people(tmp_path / "crops", {"90004": 2})  # a shorter suffix, which must lose where a longer one exists
    separator = "\\" if "\\" in prefix else "/"
    listed = {
        person: [f"{prefix}{person}{separator}{person}_{number}.jpg" for number in (0, 1)]
        for person in ("90004", "90005")
    }
    info = write_json(tmp_path / "dataset_infor.json", listed)
    root = tmp_path / "crops" if "images" in prefix else tmp_path / "crops" / "images"
    data = load(dataset_info=str(info), data_root=str(root), val_fraction=0, test_fraction=0)
    assert {path.parent.parent for path in data.train.paths} == {tmp_path / "crops" / "images"}
    assert any("4 of 4 listed paths found under" in finding for finding in data.findings)


def test_data_dir_is_the_root_when_none_is_named(tmp_path, people, write_json):
    people(tmp_path, {"a": 2, "b": 2})
    write_json(
        tmp_path / "dataset_infor.json", {p: [f"/kaggle/x/{p}/{p}_{n}.jpg" for n in (0, 1)] for p in "ab"}
    )
    assert load(tmp_path, val_fraction=0, test_fraction=0).train.num_images == 4


def test_named_root_wins_over_the_path_as_written(tmp_path, people, write_json):
    people(tmp_path / "old", {"a": 2, "b": 2})
    people(tmp_path / "new" / "old", {"a": 2, "b": 2})
    info = write_json(
        tmp_path / "dataset_infor.json", {p: [f"old/{p}/{p}_{n}.jpg" for n in (0, 1)] for p in "ab"}
    )
    data = load(dataset_info=str(info), data_root=str(tmp_path / "new"), val_fraction=0, test_fraction=0)
    assert all(path.is_relative_to(tmp_path / "new") for path in data.train.paths)


@pytest.mark.parametrize("by", ["data_dir", "dataset_info"])
def test_series_of_json_files_defines_the_split(tmp_path, people, write_json, by):
    people(tmp_path, {"a": 2, "b": 2, "c": 2})
    for split, persons in {"train": "ab", "test": "c"}.items():
        listed = {p: [f"{p}/{p}_0.jpg", f"{p}/{p}_1.jpg"] for p in persons}
        write_json(tmp_path / f"{split}_dataset_infor.json", listed)
        write_json(tmp_path / f"{split}_twin_pairs_infor.json", [["a", "b"]] if split == "train" else [])
    if by == "data_dir":
        data = load(tmp_path, val_fraction=0)
    else:
        data = load(dataset_info=str(tmp_path / "test_dataset_infor.json"), val_fraction=0)
    assert split_people(data) == {"train": {"a", "b"}, "val": set(), "test": {"c"}}
    assert twins_of(data.train) == [["a", "b"]]
    assert "split read from train_dataset_infor.json, test_dataset_infor.json" in data.findings


def test_json_beside_split_folders_takes_its_split_from_them(tmp_path, people, write_json):
    people(tmp_path / "train", {"a": 3, "b": 2})
    people(tmp_path / "test", {"c": 2})
    listed = {
        "a": ["train/a/a_0.jpg", "train/a/a_1.jpg"],
        "b": ["train/b/b_0.jpg", "train/b/b_1.jpg"],
        "c": ["test/c/c_0.jpg"],
    }
    write_json(tmp_path / "dataset_infor.json", listed)
    data = load(tmp_path, val_fraction=0)
    assert split_people(data) == {"train": {"a", "b"}, "val": set(), "test": {"c"}}
    assert data.train.num_images == 4, "the JSON says which images"
    assert "split read from the folders that dataset_infor.json names" in data.findings


def test_json_partly_outside_the_split_folders_sets_no_split(tmp_path, people, write_json):
    people(tmp_path / "train", {"a": 2})
    people(tmp_path / "more", {"b": 2})
    write_json(
        tmp_path / "dataset_infor.json",
        {"a": ["train/a/a_0.jpg", "train/a/a_1.jpg"], "b": ["more/b/b_0.jpg", "more/b/b_1.jpg"]},
    )
    data = load(tmp_path, val_fraction=0, test_fraction=0)
    assert data.train.people == ("a", "b")
    assert any("2 of 4 images outside train/" in finding for finding in data.findings)


def test_twin_pairs_by_split_define_it_and_the_rest_trains(tmp_path, people, write_json):
    people(tmp_path, {**EIGHT, "alone": 2})
    pairs = {"train": [["a", "b"]], "val": [["c", "d"]], "test": [["e", "f"]]}
    write_json(tmp_path / "twin_pairs_infor.json", pairs)
    data = load(tmp_path)
    assert split_people(data) == {
        "train": {"a", "b", "g", "h", "alone"},
        "val": {"c", "d"},
        "test": {"e", "f"},
    }


def test_twin_pairs_series_defines_the_split_and_carves_val(tmp_path, people, write_json):
    people(tmp_path, EIGHT)
    write_json(tmp_path / "train_twin_pairs_infor.json", TWINS[:3])
    write_json(tmp_path / "test_twin_pairs_infor.json", TWINS[3:])
    data = load(tmp_path, val_fraction=0.3)
    assert data.test.people == ("g", "h")
    assert data.val.num_people == 2
    assert data.train.num_people == 4


def test_people_without_a_twin_and_integer_ids(tmp_path, people, write_json):
    people(tmp_path, {"1": 2, "2": 2, "3": 2, "4": 2})
    write_json(tmp_path / "twin_pairs_infor.json", [[1, 2]])
    data = load(tmp_path, val_fraction=0, test_fraction=0)
    assert twins_of(data.train) == [["1", "2"], ["3"], ["4"]]
    assert data.train.num_families == 3
    assert data.train.image_families.tolist() == [0, 0, 0, 0, 1, 1, 2, 2]


def test_triplets_are_one_family_even_through_someone_without_images(tmp_path, people, write_json):
    people(tmp_path, {"a": 2, "c": 2, "d": 2})
    write_json(tmp_path / "twin_pairs_infor.json", [["a", "b"], ["b", "c"]])
    data = load(tmp_path, val_fraction=0, test_fraction=0)
    assert twins_of(data.train) == [["a", "c"], ["d"]]
    assert any("twin_pairs_infor.json but not in the data set: b" in f for f in data.findings)


def test_drawn_split_is_by_family_and_ignores_the_order_of_the_json(tmp_path, people, write_json):
    counts = {f"{number:02}": 2 for number in range(40)}
    people(tmp_path / "images", counts)
    pairs = [[f"{n:02}", f"{n + 1:02}"] for n in range(0, 20, 2)]
    listed = {p: [f"../images/{p}/{p}_{n}.jpg" for n in (0, 1)] for p in counts}
    shuffled = list(counts)
    random.Random(1).shuffle(shuffled)
    for name, order in (("one", list(counts)), ("two", shuffled)):
        write_json(tmp_path / name / "dataset_infor.json", {p: listed[p] for p in order})
        write_json(tmp_path / name / "twin_pairs_infor.json", pairs if name == "one" else pairs[::-1])
    one, two = load(tmp_path / "one", seed=3), load(tmp_path / "two", seed=3)
    assert split_people(one) == split_people(two)
    assert split_people(one) != split_people(load(tmp_path / "one", seed=4))
    for split in ("train", "val", "test"):
        assert getattr(one, split).paths[0].name == getattr(two, split).paths[0].name


def test_split_file_round_trip(tmp_path, people, write_json):
    people(tmp_path / "data", {**EIGHT, "small": 1})
    write_json(tmp_path / "data" / "twin_pairs_infor.json", TWINS)
    data = load(tmp_path / "data", seed=5, val_fraction=0.25, test_fraction=0.25)
    write_split(data, tmp_path / "split.json")
    again = load(tmp_path / "data", seed=6, split_file=str(tmp_path / "split.json"))
    assert split_people(again) == split_people(data)
    assert again.train.paths == data.train.paths


def test_images_are_sorted_whatever_the_order_of_the_json(tmp_path, people, write_json):
    people(tmp_path, {"a": 3, "b": 2})
    write_json(
        tmp_path / "dataset_infor.json",
        {"b": ["b/b_1.jpg", "b/b_0.jpg"], "a": ["a/a_2.jpg", "a/a_0.jpg", "a/a_1.jpg"]},
    )
    faces, _ = load_face_set(tmp_path)
    assert [path.name for path in faces.paths] == ["a_0.jpg", "a_1.jpg", "a_2.jpg", "b_0.jpg", "b_1.jpg"]


def test_summary_is_one_line_with_the_numbers(tmp_path, people, write_json):
    people(tmp_path / "train", {"a": 2, "b": 5, "c": 1})
    people(tmp_path / "test", {"d": 3})
    write_json(tmp_path / "twin_pairs_infor.json", [["a", "b"]])
    summary = load(tmp_path, val_fraction=0).summary()
    assert "\n" not in summary
    assert "train: 2 people in 1 family (1 of twins), 7 images, 2 to 5 (median 3.5) a person" in summary
    assert "val: none; test: 1 person in 1 family (0 of twins), 3 images" in summary
    assert "left out: 1 person left out, fewer than 2 images to train on: c" in summary


def test_face_set_subset_and_unknown_people(tmp_path, people, write_json):
    people(tmp_path, EIGHT)
    write_json(tmp_path / "twin_pairs_infor.json", TWINS)
    faces, _ = load_face_set(tmp_path)
    some = faces.subset(["h", "a", "g"])
    assert some.people == ("a", "g", "h")
    assert some.family_of.tolist() == [0, 1, 1]
    assert some.person_of.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [path.parent.name for path in some.paths] == list("aaaggghhh")
    with pytest.raises(ManifestError, match="no such people in the set: zz"):
        faces.subset(["a", "zz"])
    empty = FaceSet.build({}, {})
    assert (empty.num_people, empty.num_images, empty.num_families, empty.has_twins) == (0, 0, 0, False)
    assert empty.images_per_person == (0, 0, 0)
    assert empty.image_families.dtype == np.int64


def test_evaluation_set_of_a_data_set_is_its_test_split(tmp_path, people, write_json):
    people(tmp_path / "train", {"a": 2, "b": 2})
    people(tmp_path / "test", {"c": 2, "d": 1})
    write_json(tmp_path / "twin_pairs_infor.json", [["a", "b"], ["c", "d"]])
    faces, findings = load_face_set(tmp_path)
    assert faces.people == ("c", "d")
    assert faces.has_twins
    assert any("split 'test'" in finding for finding in findings)
    assert load_face_set(tmp_path, split="train")[0].people == ("a", "b")
    assert load_face_set(tmp_path, split="all", strict=True)[0].num_people == 4
    alone, _ = load_face_set(tmp_path / "test", strict=True)
    assert twins_of(alone) == [["c", "d"]], "twins are found beside the folder of one split"
    with pytest.raises(ManifestError, match="nobody is in split 'val', only in test, train"):
        load_face_set(tmp_path, split="val")
    with pytest.raises(ManifestError, match="no split 'dev'"):
        load_face_set(tmp_path, split="dev")


def test_evaluation_set_of_one_json_of_a_series_is_that_file_alone(tmp_path, people, write_json):
    people(tmp_path, {"a": 2, "b": 2, "c": 2})
    write_json(tmp_path / "train_dataset_infor.json", {"a": ["a/a_0.jpg"]})
    info = write_json(tmp_path / "test_dataset_infor.json", {p: [f"{p}/{p}_0.jpg"] for p in "bc"})
    pairs = write_json(tmp_path / "pairs" / "twins.json", [["b", "c"]])
    faces, _ = load_face_set(info, twin_pairs=pairs)
    assert twins_of(faces) == [["b", "c"]]
    whole, _ = load_face_set(info, split="val")
    assert whole.people == faces.people, "a set that defines no splits is taken whole"


def test_reading_descriptions_does_not_import_torch():
    code = (
        "import sys, twin_dcal.data.manifest, twin_dcal.data.pairs, twin_dcal.data.samplers\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_moved_data_set_still_loads(tmp_path, people, write_json):
    people(tmp_path / "one" / "train", {"a": 2, "b": 2})
    write_json(
        tmp_path / "one" / "dataset_infor.json", {p: [f"train/{p}/{p}_{n}.jpg" for n in (0, 1)] for p in "ab"}
    )
    shutil.move(tmp_path / "one", tmp_path / "two")
    assert load(tmp_path / "two", val_fraction=0, test_fraction=0).train.num_images == 4
