"""What is wrong with a data set: left out with a finding, or refused with one message."""

import pytest

from twin_dcal.config import DataConfig
from twin_dcal.data.manifest import load_face_data, load_face_set, read_face_set
from twin_dcal.errors import ManifestError


def load(folder=None, **options):
    options = {"val_fraction": 0, "test_fraction": 0, **options}
    return load_face_data(DataConfig(data_dir=str(folder) if folder else None, **options), 0)


def refused(message, folder=None, **options):
    with pytest.raises(ManifestError, match=message) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)


def left_out(finding, folder, **options):
    """The finding is there, and strict makes it the error."""
    data = load(folder, **options)
    assert any(finding in text for text in data.findings), data.findings
    assert finding in data.summary()
    with pytest.raises(ManifestError, match="data.strict") as caught:
        load(folder, strict=True, **options)
    assert finding in str(caught.value)
    return data


@pytest.fixture
def folder(tmp_path, people):
    people(tmp_path / "data", {"a": 3, "b": 3})
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("name", "content", "finding"),
    [
        ("zero.jpg", b"", "1 image left out, empty file: "),
        ("text.jpg", b"this is not an image, only called one", "1 image left out, not an image: "),
        ("page.png", b"<html></html>", "1 image left out, not an image: "),
        ("notes.txt", b"some words", "1 file left out, not an image extension: a/notes.txt"),
        ("raw.cr2", b"II*", "1 file left out, not an image extension: a/raw.cr2"),
    ],
)
def test_a_file_that_is_no_image(folder, name, content, finding):
    (folder / "a" / name).write_bytes(content)
    assert left_out(finding, folder).train.num_images == 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "PPM"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_images_of_each_format(folder, encode, draw, kind, share):
    image = draw(120, 100).convert("L") if kind == "PPM" else draw(120, 100)
    whole = encode(image, kind)
    suffix = {"JPEG": "jpg", "PPM": "pgm"}.get(kind, kind.lower())
    (folder / "a" / f"cut.{suffix}").write_bytes(whole[: int(len(whole) * share)])
    (folder / "b" / f"whole.{suffix}").write_bytes(whole)
    data = left_out("1 image left out, truncated or damaged: ", folder)
    assert data.train.num_images == 7


def test_a_jpeg_with_bytes_behind_its_end_is_sound(folder, jpeg):
    (folder / "a" / "tail.jpg").write_bytes(jpeg + bytes(500))
    assert load(folder, strict=True).train.num_images == 7


def test_findings_count_and_name_the_first_three(folder):
    for number in range(5):
        (folder / "a" / f"e{number}.jpg").write_bytes(b"")
    [finding] = [text for text in load(folder).findings if "empty file" in text]
    assert finding.startswith("5 images left out, empty file: ")
    assert finding.endswith("e2.jpg and 2 more")
    assert "e3.jpg" not in finding


def test_folders_where_files_belong(folder):
    (folder / "a" / "folder.jpg").mkdir()
    (folder / "a" / "session").mkdir()
    left_out("1 image left out, a folder, not a file: ", folder)
    left_out("1 folder left out, inside a person's folder: a/session", folder)


def test_images_outside_person_folders(folder, jpeg):
    (folder / "lost.jpg").write_bytes(jpeg)
    left_out("1 image left out, in data/ but in no person's folder: lost.jpg", folder)


def test_people_without_images(folder):
    (folder / "nobody").mkdir()
    data = left_out("1 person left out, no usable image: nobody", folder)
    assert data.train.people == ("a", "b")


def test_people_with_few_images_leave_train_only(tmp_path, people):
    people(tmp_path / "train", {"a": 3, "b": 2, "c": 1})
    people(tmp_path / "test", {"d": 1})
    data = left_out("2 people left out, fewer than 3 images to train on: b, c", tmp_path, min_images=3)
    assert data.train.people == ("a",)
    assert data.test.people == ("d",)


def test_missing_files_of_a_json(tmp_path, folder, write_json):
    listed = {
        "a": ["data/a/a_0.jpg", "data/a/a_1.jpg", "data/a/gone.jpg", "data/a/nul\x00.jpg"],
        "z": ["z/z.jpg"],
    }
    info = write_json(tmp_path / "dataset_infor.json", listed)
    data = load(dataset_info=str(info))
    assert data.train.num_images == 2
    assert any(f"2 images left out, no such file: {tmp_path}/data/a/gone.jpg" in f for f in data.findings)
    assert any("1 image left out, cannot be opened: " in f for f in data.findings)
    assert any("1 person left out, no usable image: z" in f for f in data.findings)
    refused("2 images left out, no such file", dataset_info=str(info), strict=True)


def test_repeated_paths_are_kept_once(tmp_path, folder, write_json):
    listed = {"a": ["data/a/a_0.jpg", "data/b/../a/a_0.jpg", "data/a/a_1.jpg"]}
    write_json(tmp_path / "dataset_infor.json", listed)
    assert left_out("1 image left out, listed before: ", tmp_path).train.num_images == 2


@pytest.mark.parametrize("second", ["data/a/a_0.jpg", "data/b/link.jpg", "data/b/../a/a_0.jpg"])
def test_one_file_under_two_people_is_refused(tmp_path, folder, write_json, second):
    (folder / "b" / "link.jpg").symlink_to(folder / "a" / "a_0.jpg")
    write_json(tmp_path / "dataset_infor.json", {"a": ["data/a/a_0.jpg", "data/a/a_1.jpg"], "b": [second]})
    refused(r"listed under two people: .*\('a' and 'b'\)", tmp_path)


def about_copies(findings):
    return [text for text in findings if "cop" in text]


def test_copies_under_two_people_are_told_and_kept(folder, write_json):
    (folder / "b" / "copy.jpg").write_bytes((folder / "a" / "a_1.jpg").read_bytes())
    data = load(folder)
    [finding] = about_copies(data.findings)
    assert finding == (
        f"1 picture is under two people, as copies: {folder}/a/a_1.jpg ('a') and {folder}/b/copy.jpg ('b'). "
        "Keep each under the person it shows"
    )
    assert data.num_left_out == 0
    assert data.train.num_images == 7
    refused("1 picture is under two people", folder, strict=True)
    read = read_face_set(folder)
    assert read.warnings == (finding,)
    with pytest.raises(ManifestError, match="1 picture is under two people"):
        read_face_set(folder, strict=True)


def test_copies_of_one_person_are_told_and_kept(folder):
    for number in range(2):
        (folder / "a" / f"z{number}.jpg").write_bytes((folder / "a" / "a_1.jpg").read_bytes())
    data = load(folder)
    assert about_copies(data.findings) == [
        f"2 images are copies of another image of the same person: {folder}/a/z0.jpg, {folder}/a/z1.jpg"
    ]
    assert data.train.num_images == 8


@pytest.mark.parametrize("place", [0, 6000, -1])
def test_files_that_differ_in_one_byte_are_no_copies(folder, jpeg, place):
    behind = bytearray(9000)  # more than what is compared at a file's end
    for person in "ab":
        (folder / person / "long.jpg").write_bytes(jpeg + bytes(behind))
        behind[place] = 1
    assert about_copies(load(folder).findings) == []


def test_unsupported_extension_in_a_json(tmp_path, folder, write_json):
    write_json(tmp_path / "dataset_infor.json", {"a": ["data/a/a_0.jpg", "data/a/a_1.jpg", "data/a/x.gif"]})
    left_out("1 listed path left out, not an image extension: data/a/x.gif", tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], r"not a data set, this is \[\]\. Write"),
        ({"a": "a/a_0.jpg"}, r"'a': not a list of image paths, this is \"a/a_0.jpg\""),
        ({"a": ["a/a_0.jpg", 3]}, r"'a', entry 1: not an image path, this is 3"),
        ({"": ["a/a_0.jpg"]}, "an empty person id"),
        ({}, "no people to train on"),
    ],
)
def test_json_of_another_shape(folder, write_json, values, message):
    info = write_json(folder / "dataset_infor.json", values)
    refused(f"dataset_infor.json.*{message}", folder)
    assert info.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": ["x.jpg",\n ]}', r"dataset_infor.json, line \d, column \d+: not JSON"),
        (b"", "dataset_infor.json, line 1, column 1: not JSON"),
        (b'{"a": [], "a": []}', "the key 'a' is written twice"),
        (b'{"\xff": []}', r"not UTF-8 text \(byte 2\)"),
        (b"[" * 100_000, "nested too deeply|not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "dataset_infor.json: "),
    ],
)
def test_files_that_are_not_json(folder, text, message):
    (folder / "dataset_infor.json").write_bytes(text)
    refused(message, folder)


def test_a_byte_order_mark_is_fine(folder):
    text = '\ufeff{"a": ["a/a_0.jpg", "a/a_1.jpg"]}'
    (folder / "dataset_infor.json").write_text(text, encoding="utf-8")
    assert load(folder).train.num_images == 2


@pytest.mark.parametrize(
    ("pairs", "finding"),
    [
        ([["a", "b"], ["a", "a"]], "1 twin pair left out, an id paired with itself: a"),
        ([["a", "b"], ["b", "a"]], "1 twin pair left out, listed before: b-a"),
        ([["a", "b"], ["a", "zz"]], "twin_pairs_infor.json but not in the data set: zz"),
    ],
)
def test_faults_of_twin_pairs_that_are_left_out(folder, write_json, pairs, finding):
    write_json(folder / "twin_pairs_infor.json", pairs)
    assert left_out(finding, folder).train.num_twin_families == 1


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"a": "b"}, 'unknown key "a"; keys are train, val and test'),
        (3, "not a list of twin pairs"),
        (
            [["a", "b"], ["a", "b", "c"]],
            r"entry 1: a twin pair is a list of two ids, this is \[\"a\", \"b\", \"c\"\]",
        ),
        ([["a", 1.5]], "entry 0: a person id is text or a whole number, this is 1.5"),
        ([["a", True]], "entry 0: a person id is text or a whole number, this is true"),
        ({"train": {"a": "b"}}, "'train': not a list of twin pairs"),
        ({"train": [["a", "b"]], "test": [["b", "c"]]}, "person 'b' is in train and in test"),
    ],
)
def test_twin_pairs_of_another_shape(folder, write_json, pairs, message):
    write_json(folder / "twin_pairs_infor.json", pairs)
    refused(f"twin_pairs_infor.json.*{message}", folder)


def test_named_twin_pairs_must_exist(folder):
    refused("gone.json: no such file", folder, twin_pairs=str(folder / "gone.json"))


def test_a_family_in_two_splits_is_refused(tmp_path, people, write_json):
    people(tmp_path / "train", {"a": 2, "c": 2})
    people(tmp_path / "test", {"b": 2})
    write_json(tmp_path / "twin_pairs_infor.json", [["a", "b"]])
    refused(r"families in two splits: 'a' \(train\) and 'b' \(test\)", tmp_path)


def test_a_person_in_two_splits_is_refused(tmp_path, people):
    people(tmp_path / "train", {"001": 2})
    people(tmp_path / "test", {"001": 2})
    refused("person '001' is in train and in test. Move all images", tmp_path)


def test_folders_and_pairs_that_name_different_splits_are_refused(tmp_path, people, write_json):
    people(tmp_path / "train", {"a": 2, "b": 2})
    people(tmp_path / "test", {"c": 2})
    write_json(tmp_path / "twin_pairs_infor.json", {"test": [["a", "b"]]})
    refused(r"name different splits: 'a' \(test in the pairs, train in the data\)", tmp_path)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": ["a"]}, "1 person of the data set in no split: b"),
        ({"train": ["a", "b", "c"], "val": ["d"]}, "2 people are not in the data set: c, d"),
        ({"train": ["a"], "test": ["a", "b"]}, "person 'a' is listed in train and in test"),
        ({"train": ["a"], "dev": ["b"]}, "not a split"),
        ({"train": "a"}, "'train': not a list of ids"),
        ({"train": ["a"], "val": ["b"]}, r"families in two splits: 'a' \(train\) and 'b' \(val\)"),
    ],
)
def test_split_files_that_do_not_fit(tmp_path, folder, write_json, split, message):
    write_json(folder / "twin_pairs_infor.json", [["a", "b"]])
    path = write_json(tmp_path / "split.json", split)
    refused(f"split.json.*{message}", folder, split_file=str(path))


def test_nothing_to_read(tmp_path, folder):
    refused("no data set is given: set data.data_dir or data.dataset_info. Accepted: ROOT/")
    refused("the data folder does not exist. Accepted: ROOT/", tmp_path / "gone")
    refused("the data folder is a file, not a folder", folder / "a" / "a_0.jpg")
    (tmp_path / "empty").mkdir()
    refused("no person folders with images in it. Accepted: ROOT/", tmp_path / "empty")
    refused("data_root .*no such folder", folder, data_root=str(tmp_path / "gone"))
    refused("gone.json: no such file", dataset_info=str(tmp_path / "gone.json"))


def test_an_empty_train_set_says_what_was_left_out(tmp_path, people):
    people(tmp_path, {"a": 1, "b": 1})
    refused(
        "no people to train on. Left out: 2 people left out, fewer than 2 images to train on: a, b", tmp_path
    )
    people(tmp_path / "only", {})
    people(tmp_path / "only" / "test", {"a": 2})
    refused("no people to train on", tmp_path / "only")


def test_fractions_that_leave_nothing(folder):
    refused(
        "val_fraction 0.5 .* test_fraction 0.5 leaves no family to train on",
        folder,
        val_fraction=0.5,
        test_fraction=0.5,
    )


def test_evaluation_sets_report_and_refuse_alike(folder, write_json, tmp_path):
    (folder / "a" / "zero.jpg").write_bytes(b"")
    faces, findings = load_face_set(folder)
    assert faces.num_images == 6
    assert any("empty file" in finding for finding in findings)
    with pytest.raises(ManifestError, match="empty file"):
        load_face_set(folder, strict=True)
    with pytest.raises(ManifestError, match="does not exist"):
        load_face_set(tmp_path / "gone")
    info = write_json(tmp_path / "none.json", {"a": ["gone.jpg"]})
    with pytest.raises(ManifestError, match="no usable images. Left out: 1 image left out, no such file"):
        load_face_set(info)
