"""Galleries: a search is brute force, twins are named, files are whole, and deletion deletes."""

import json
import os
import signal
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from templates_oracle import dot, template_score
from tiny import tiny_model

from twin_dcal import TwinInferenceEngine
from twin_dcal.cli import search
from twin_dcal.errors import ConfigError, ImageError, ManifestError, ModelError
from twin_dcal.inference import gallery_file
from twin_dcal.metrics.calibration import Platt
from twin_dcal.metrics.error_curve import Threshold


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    torch.manual_seed(0)
    return tiny_model(
        tmp_path_factory.mktemp("gallery"), threshold=Threshold(0.75, {}), calibration=Platt(8, -6, 0.5, 9, 9, "x")
    )  # fmt: skip


@pytest.fixture(scope="module")
def engine(model_path):
    return TwinInferenceEngine(model_path, "cpu", align="never")


@pytest.fixture(scope="module")
def enrolled(engine, tiny_faces):
    """Everybody of the tiny data set, with its twins."""
    return engine.enroll(tiny_faces)


@pytest.fixture(scope="module")
def photos(tiny_faces):
    return sorted(map(str, tiny_faces.glob("test/*/*.png")))


def features_of(gallery):
    """Each photograph and its features, in any order."""
    return {
        (each.person, each.sha256): row.tolist()
        for each, row in zip(gallery.photographs, gallery._stored.features, strict=True)
    }


@pytest.mark.parametrize("fuse", ["quality", "mean", "max", "scores"])
def test_a_search_is_brute_force(engine, enrolled, tiny_faces, photos, fuse):
    assert (len(enrolled), len(enrolled.photographs), len(enrolled.twins)) == (16, 96, 8)
    people = {
        folder.name: sorted(folder.glob("*.png")) for folder in tiny_faces.glob("*/*") if folder.is_dir()
    }
    query = engine.extract_features(photos[:2]).tolist()
    rule = "mean" if fuse == "quality" else fuse
    width = len(query[0])
    expected = {
        person: template_score(
            query, engine.extract_features(paths).tolist(), rule, ([1, 1], [1] * 6), [(0, width, 1)], dot
        )
        for person, paths in people.items()
    }
    found = enrolled.search(photos[:2], top=16, fuse=fuse)
    assert {hit.person: hit.similarity for hit in found.hits} == pytest.approx(expected, abs=1e-5)
    order = [(-hit.similarity, hit.person) for hit in found.hits]
    assert order == sorted(order)
    assert [hit.rank for hit in found.hits] == list(range(1, 17))
    assert all(hit.same_person == (hit.similarity >= 0.75) for hit in found.hits)
    assert [hit.person for hit in enrolled.search(photos[:2], top=3, fuse=fuse).hits] == [
        hit.person for hit in found.hits[:3]
    ]
    assert json.loads(json.dumps(found.to_dict()))["num_people"] == 16
    assert found.records()[0]["person"] == found.hits[0].person


def test_of_equal_ones_the_first_by_name_comes_first(engine, photos, tmp_path):
    photograph = Image.open(photos[0])
    for name in "bca":
        photograph.save(tmp_path / f"{name}.bmp")
        with (tmp_path / f"{name}.bmp").open("ab") as file:
            file.write(name.encode())  # another file of the same picture
    gallery = engine.enroll({name: tmp_path / f"{name}.bmp" for name in "bca"})
    assert [hit.person for hit in gallery.search(photos[5]).hits] == ["a", "b", "c"]


def test_comparing_with_one_person_is_verify(engine, enrolled, photos):
    own = [path for path in photos if "/6b/" in path]
    found, expected = enrolled.verify(photos[0], "6b"), engine.verify(photos[0], own)
    assert found.similarity == pytest.approx(expected.similarity, abs=1e-5)
    assert (found.sizes, found.threshold) == (expected.sizes, expected.threshold)
    assert [each["contribution"] for each in found.photographs[1]] == pytest.approx(
        [each["contribution"] for each in expected.photographs[1]], abs=1e-5
    )
    assert any("6b is a twin: 6a is" in text for text in found.warnings)
    assert not any("is a twin" in text for text in engine.enroll({"x": own}).verify(photos[0], "x").warnings)
    with pytest.raises(ConfigError, match="nobody is enrolled as '6c'"):
        enrolled.verify(photos[0], "6c")


def blended(photo, other, share):
    pixels = [np.array(Image.open(path).convert("RGB"), float) for path in (photo, other)]
    return ((1 - share) * pixels[0] + share * pixels[1]).astype(np.uint8)


def test_a_twin_at_rank_two_is_a_warning_with_the_margin(engine, photos):
    people = {"x": [photos[0]], "y": [blended(photos[0], photos[12], 0.2)], "z": [photos[12]]}
    found = engine.enroll(people, twins=[("y", "x")]).search(photos[0])
    first, second, third = found.hits
    assert [hit.person for hit in found.hits] == ["x", "y", "z"]
    assert first.twins == {"y": second.similarity}
    assert first.margin == first.similarity - second.similarity
    assert second.margin == -first.margin
    assert (third.twins, third.margin) == ({}, None)
    told = [text for text in found.warnings if "rank 1 is x and rank 2 the twin y" in text]
    assert len(told) == 1
    assert f"{first.margin:.3f} less alike" in told[0]
    apart = engine.enroll(people, twins=[("x", "z")]).search(photos[0])
    assert not [text for text in apart.warnings if "rank 2" in text]
    assert apart.hits[0].margin == pytest.approx(first.similarity - third.similarity)


def test_a_file_is_the_same_gallery_and_its_owners_alone(engine, photos, tmp_path):
    path = tmp_path / "sub" / "people.gallery"
    gallery = engine.enroll({"a": photos[:2], "b": photos[6:7]}, path, twins=[("b", "a")])
    again = engine.open_gallery(path)
    assert again.photographs == gallery.photographs
    assert (again.twins, again.counts()) == ((("a", "b"),), {"a": 2, "b": 1})
    assert features_of(again) == features_of(gallery)
    assert again.search(photos[3]).hits == gallery.search(photos[3]).hits
    assert (path.stat().st_mode & 0o077, path.parent.stat().st_mode & 0o077) == (0, 0)
    assert [each.name for each in path.parent.iterdir()] == ["people.gallery"]
    unsaved = engine.enroll({"a": photos[:1]})
    unsaved.save(tmp_path / "copy")
    unsaved.add("b", photos[1])
    assert engine.open_gallery(tmp_path / "copy").people == ["a", "b"], "it keeps to its file"


def test_a_gallery_of_another_model_is_refused(engine, model_path, photos, tmp_path):
    path = tmp_path / "people.gallery"
    engine.enroll({"a": photos[:1]}, path)
    other = TwinInferenceEngine(tiny_model(tmp_path, threshold=Threshold(0.5, {})), "cpu", align="never")
    with pytest.raises(ModelError, match="a gallery of another model"):
        other.open_gallery(path)
    with pytest.raises(ModelError, match="a gallery of another model"):
        other.enroll({"a": photos[:1]}, path)
    with pytest.raises(ModelError, match="enrolled with align='never', and this engine has 'auto'"):
        TwinInferenceEngine(model_path, "cpu").open_gallery(path)


def test_what_is_no_gallery_is_one_line(engine, photos, tmp_path):
    path = tmp_path / "people.gallery"
    engine.enroll({"a": photos[:2]}, path)
    whole = path.read_bytes()
    at = whole.index(b'"align') - 20
    cases = [b"", b"x" * 40, whole[:50], whole[:-8], whole[8:], whole.replace(b"photographs", b"photographz"),
             whole.replace(b"twin_dcal.gallery", b"twin_dcal.galleri"), whole[:at] + b"\xff" + whole[at + 1 :],
             whole[:-4] + b"\x00\x00\xc0\x7f"]  # fmt: skip
    for content in cases:
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"^\S*people\.gallery: [^\n]*$"):
            engine.open_gallery(path)
    with pytest.raises(ModelError, match="no such gallery"):
        engine.open_gallery(tmp_path / "gone")


def test_deletion_deletes(engine, photos, tmp_path):
    path = tmp_path / "people.gallery"
    gallery = engine.enroll({"anna": photos[:3], "berta": photos[6:8]}, path)
    row = gallery._stored.features[1].tobytes()
    assert row in path.read_bytes()
    assert gallery.remove("anna", photos[1]) == 1
    assert row not in path.read_bytes()
    assert photos[1].encode() not in path.read_bytes()
    assert gallery.remove("anna", Path(photos[0]).read_bytes()) == 1, "by its content"
    assert gallery.remove("anna") == 1
    assert b"anna" not in path.read_bytes()
    assert [hit.person for hit in gallery.search(photos[0]).hits] == ["berta"]
    assert engine.open_gallery(path).counts() == {"berta": 2}
    for given, told in (
        (("anna",), "nobody is enrolled as 'anna'"),
        (("berta", photos[0]), "no such photograph"),
        (("berta", [None]), "no such photograph: None"),
        (("berta", [photos[6], None]), "no such photograph: None"),
    ):
        with pytest.raises(ConfigError, match=told):
            gallery.remove(*given)
    assert gallery.counts() == {"berta": 2}
    gallery.remove("berta")
    with pytest.raises(ConfigError, match="the gallery is empty"):
        engine.open_gallery(path).search(photos[0])


def test_only_a_file_is_replaced_by_a_gallery(engine, photos, tmp_path):
    gallery, pipe = engine.enroll({"anna": photos[:1]}), tmp_path / "pipe"
    os.mkfifo(pipe)
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"a photograph")
    for path, told in (
        (photo, "there already, and no gallery; name another file"),
        (pipe, "pipe: a pipe or a device, which cannot be replaced"),
        (tmp_path, "a folder, which cannot be replaced"),
        (pipe / "people.gallery", "pipe: is a file; name a folder"),
    ):
        with pytest.raises(ConfigError, match=told):
            gallery.save(path)
    assert pipe.is_fifo()
    assert photo.read_bytes() == b"a photograph"
    assert sorted(tmp_path.iterdir()) == [photo, pipe]
    for _ in range(2):
        gallery.save(tmp_path / "people.gallery")


def test_adding_tells_what_came_of_each_photograph(engine, photos, tmp_path):
    gallery = engine.enroll({"a": [photos[0]]})
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    content = Path(photos[0]).read_bytes()
    added = gallery.add("a", [photos[1], photos[0], content, bad, "gone.png", photos[1]])
    assert (added.num_added, added.num_known, len(added.left_out)) == (1, 3, 2)
    assert "bad.png" in added.left_out[1] + added.left_out[0]
    assert gallery.counts() == {"a": 2}
    assert gallery.add("b", Image.open(photos[2])).num_added == 1
    with pytest.raises(ConfigError, match="give a name"):
        gallery.add("", photos[3])
    with pytest.raises(ImageError, match=r"bad\.png"):
        gallery.search(bad)
    for wrong in (0, True, 2.5):
        with pytest.raises(ConfigError, match="top"):
            gallery.search(photos[0], top=wrong)


def test_two_who_add_to_one_file_lose_nothing(engine, photos, tmp_path):
    path = tmp_path / "people.gallery"
    one = engine.enroll({"a": photos[:1]}, path)
    two = engine.open_gallery(path)
    one.add("b", photos[1])
    two.add("c", photos[2])
    one.remove("a")
    assert engine.open_gallery(path).people == one.people == ["b", "c"]


@pytest.mark.parametrize(("after", "half"), [(1, False), (1, True), (2, False), (2, True), (3, True)])
def test_killed_while_enrolling_nothing_is_lost_or_doubled(
    engine, tiny_faces, tmp_path, monkeypatch, after, half
):
    """A process is killed in or after its nth write; the same call goes on from there."""
    monkeypatch.setattr("twin_dcal.inference.gallery._AT_ONCE", 4)
    path = tmp_path / "people.gallery"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that other tests left: none of them holds a lock here
        child = os.fork()
    if child == 0:
        real, count = gallery_file.replacing, [0]

        def replacing(place):
            count[0] += 1
            if count[0] == after and half:
                Path(place).with_name(f".{Path(place).name}.abcdefgh.tmp").write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
            if count[0] == after + 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(place)

        gallery_file.replacing = replacing
        engine.enroll(tiny_faces, path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it was killed"
    if path.exists():
        before = engine.open_gallery(path)
        assert len(before.photographs) < 96
    gallery = engine.enroll(tiny_faces, path)
    whole = engine.enroll(tiny_faces)
    assert sorted(features_of(gallery)) == sorted(features_of(whole))
    assert len(gallery.photographs) == 96
    for key, row in features_of(whole).items():
        np.testing.assert_allclose(features_of(gallery)[key], row, atol=1e-5)
    assert [each.name for each in tmp_path.iterdir()] == ["people.gallery"], (
        "and nothing half written is left"
    )


def frame_of(columns):
    """What pandas and polars make of columns, as far as it is asked for here."""

    class Frame:
        def __init__(self):
            self.columns = list(columns)

        def __getitem__(self, name):
            return SimpleNamespace(tolist=lambda: columns[name])

    return Frame()


def test_who_is_enrolled_can_be_named_in_many_ways(engine, tiny_faces, photos, tmp_path):
    table = tmp_path / "people.csv"
    table.write_text(f"image,person\n{photos[0]},a\n{photos[6]},b\n")
    pairs = tmp_path / "twins.csv"
    pairs.write_text("a,b\n")
    gallery = engine.enroll(table, twins=pairs)
    assert (gallery.counts(), gallery.twins) == ({"a": 1, "b": 1}, (("a", "b"),))
    assert engine.enroll(frame_of({"person": ["a"], "image": [photos[0]]})).counts() == {"a": 1}
    folder = engine.enroll(tiny_faces / "test", tmp_path / "g")
    assert folder.people == ["6a", "6b", "7a", "7b"]
    assert engine.enroll(tiny_faces, tmp_path / "g").counts() == dict.fromkeys(
        engine.enroll(tiny_faces).people, 6
    )
    for wrong in ({}, tmp_path / "gone", tmp_path / "gone.csv"):
        with pytest.raises(ManifestError):
            engine.enroll(wrong)


def test_the_command(model_path, tiny_faces, photos, tmp_path, capsys):
    path = tmp_path / "people.gallery"
    common = ["--model", str(model_path), "--gallery", str(path), "--align", "never"]

    def run(*given):
        code = search.main([*common, *map(str, given)])
        told = capsys.readouterr()
        return code, told.out, told.err

    assert run("--enroll", tiny_faces)[:2] == (0, f"16 people with 96 photographs: {path}\n")
    code, out, _ = run("--photo", photos[0], "--top", 2)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["rank", "1", "2"]
    assert "(twin " in out
    code, out, _ = run("--photo", *photos[:2], "--json", "--threshold", "1", "--exact")
    assert (code, json.loads(out)["hits"][0]["same_person"], json.loads(out)["exact"]) == (1, False, True)
    code, out, _ = run("--photo", photos[0], "--person", "6a")
    assert out.startswith("decision ")
    assert "second 6" in out
    mirrored = tmp_path / "mirrored.png"
    ImageOps.mirror(Image.open(photos[0])).save(mirrored)
    assert run("--add", "new", "--photo", mirrored, "gone.png")[:2] == (
        0, "1 photograph added, 0 there already; 17 people with 97 photographs\n",
    )  # fmt: skip
    assert run("--remove", "new")[1] == "1 photograph of new deleted; 16 people with 96 photographs\n"
    assert run("--list")[1].splitlines()[0].split() == ["6", "0a"]
    assert run("--remove", "nobody")[0] == 2
    for wrong in ((), ("--enroll", "x", "--list"), ("--enroll", "x", "--photo", "y"), ("--json", "--list")):
        code, _, err = run(*wrong)
        assert (code, err.count("\n")) == (2, 1)


@pytest.fixture
def command(model_path, tmp_path, capsys):
    """Calls `dcal-search` with the gallery `people.gallery` of a folder: exit code, stdout, stderr."""

    def run(*given):
        common = ["--model", model_path, "--gallery", tmp_path / "people.gallery", "--align", "never"]
        code = search.main([str(each) for each in (*common, *given)])
        return code, *capsys.readouterr()

    return run


def test_names_that_are_no_text_are_enrolled_and_found(engine, photos, tmp_path, command):
    person = os.fsdecode(b"J\xfcrgen")
    place = tmp_path / "photos" / person / f"{person}.png"
    place.parent.mkdir(parents=True)
    place.write_bytes(Path(photos[0]).read_bytes())
    code, out, _ = command("--enroll", tmp_path / "photos")
    assert (code, out[:31]) == (0, "1 person with 1 photograph: " + str(tmp_path)[:3])
    assert command("--add", person, "--photo", photos[1])[:2] == (
        0, "1 photograph added, 0 there already; 1 person with 2 photographs\n"
    )  # fmt: skip
    gallery = engine.open_gallery(tmp_path / "people.gallery")
    assert gallery.counts() == {person: 2}
    assert gallery.search(photos[0]).hits[0].person == person
    gallery.add_twins([(person, "other")])
    assert engine.open_gallery(tmp_path / "people.gallery").twins == gallery.twins == ((person, "other"),)
    assert gallery.remove(person, str(place)) == 1


@pytest.mark.parametrize(
    "name", ["x" * 10_001, 3, None, "", "   ", "b ", "\tb"],
    ids=["long", "number", "none", "empty", "blanks", "blank after", "tab before"],
)  # fmt: skip
def test_a_name_that_is_none_is_refused_before_anything_is_written(engine, photos, tmp_path, name):
    path = tmp_path / "people.gallery"
    with pytest.raises(ConfigError, match="name"):
        engine.enroll({"a": photos[:1], name: photos[1:2]}, path)
    assert not path.exists()
    with pytest.raises(ConfigError, match="name"):
        engine.enroll({"a": photos[:1]}, path, twins=[("a", "x" * 10_001)])
    assert not path.exists()


def test_who_was_enrolled_with_blanks_around_the_name_can_be_deleted(engine, command, photos, tmp_path):
    """Galleries of earlier releases may have such names."""
    assert command("--add", "07 ", "--photo", photos[0])[::2] == (
        2, "error: person '07 ': blanks before or after a name, which nobody sees; enroll as '07'\n"
    )  # fmt: skip
    stored = engine.enroll({"a": photos[:1]})._stored
    for name in ("  ", "07 "):
        old = gallery_file.Stored(
            (stored.photographs[0].model_copy(update={"person": name}),), stored.features
        )
        gallery_file.write_gallery(tmp_path / "people.gallery", old, engine.source.described(), engine.align)
        assert command("--remove", name)[0] == 0


def test_one_photograph_of_two_people_is_refused(engine, command, photos, tmp_path):
    """Known by its content, whatever the files are called."""
    path, copy = tmp_path / "people.gallery", tmp_path / "copy.png"
    copy.write_bytes(Path(photos[0]).read_bytes())
    several = [photos[1]] * 40
    for given in ({"a": photos[:1], "b": [*several, copy]}, {"a": photos[0], "b": copy.read_bytes()}):
        with pytest.raises(ManifestError, match=r"one photograph of two people, 'a' \(.*0\.png\) and 'b' \("):
            engine.enroll(given, path)
    (tmp_path / "people.csv").write_text(f"person,image\na,{photos[0]}\nb,{copy}\n")
    code, _, err = command("--enroll", tmp_path / "people.csv")
    assert (code, err.count("\n")) == (2, 1)
    assert not path.exists(), "and nothing is written"
    assert command("--add", "a", "--photo", photos[0])[0] == 0
    content = path.read_bytes()
    code, _, err = command("--add", "b", "--photo", photos[1], copy)
    assert (code, err) == (
        2, f"error: one photograph of two people, 'a' ({photos[0]}), who is enrolled, and 'b' ({copy}). "
        "Leave it out, or delete it there first.\n",
    )  # fmt: skip
    assert path.read_bytes() == content
    assert command("--add", "a", "--photo", copy)[1].startswith("0 photographs added, 1 there already")
    assert command("--remove", "a", "--photo", copy)[0] == 0
    assert command("--add", "b", "--photo", copy)[0] == 0


def test_files_that_are_alike_but_no_pictures_are_left_out(engine, photos, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    empty = tmp_path / "empty.png"
    gallery = engine.enroll({"a": [photos[0], empty], "b": [photos[1], empty]})
    assert (gallery.counts(), len(gallery.left_out)) == ({"a": 1, "b": 1}, 2)


def test_features_of_any_size_are_refused_without_numpys_word(engine, photos, tmp_path):
    path = tmp_path / "people.gallery"
    stored = engine.enroll({"a": photos[:1]}, path)._stored
    for value in (1e30, 3e38, np.inf, -np.inf, np.nan, 0):
        features = np.full_like(stored.features, value)
        changed = gallery_file.Stored(stored.photographs, features)
        gallery_file.write_gallery(path, changed, engine.source.described(), engine.align)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ModelError, match="damaged: its features are not of length 1"):
                engine.open_gallery(path)


def test_names_that_end_alike_are_two_people(engine, photos):
    gallery = engine.enroll({"a": photos[:1], "a\0": photos[1:3]})
    assert gallery.counts() == {"a": 1, "a\0": 2}
    assert gallery.remove("a") == 1


def test_a_new_gallery_tells_what_was_added(command, photos):
    assert command("--add", "bob", "--photo", photos[0])[:2] == (
        0, "1 photograph added, 0 there already; 1 person with 1 photograph\n"
    )  # fmt: skip
    assert command("--add", "bob", "--photo", *photos[:2])[:2] == (
        0, "1 photograph added, 1 there already; 1 person with 2 photographs\n"
    )  # fmt: skip


def test_where_no_photograph_can_be_used_nothing_is_written(command, photos, tmp_path):
    (tmp_path / "photos" / "bob").mkdir(parents=True)
    (tmp_path / "photos" / "bob" / "bad.png").write_bytes(b"nothing")
    gallery = tmp_path / "people.gallery"
    for _ in range(2):  # without a gallery, and with one
        before = gallery.read_bytes() if gallery.exists() else None
        for given in (
            ("--add", "bob", "--photo", "gone.png", "lost.png"),
            ("--enroll", tmp_path / "photos"),
        ):
            code, out, err = command(*given)
            assert (code, out) == (2, "")
            assert err.startswith("error: nobody is enrolled: none of ")
            assert err.count("\n") == 1
            assert (gallery.read_bytes() if gallery.exists() else None) == before
        command("--add", "anna", "--photo", photos[0])


def test_of_photographs_to_delete_all_are_there_or_none_goes(engine, command, photos):
    command("--add", "a", "--photo", *photos[:3])
    code, _, err = command("--remove", "a", "--photo", photos[0], photos[7])
    assert (code, err) == (2, f"error: person 'a' has no such photograph: {photos[7]}\n")
    assert command("--list")[1].split() == ["3", "a"]
    assert command("--remove", "a", "--photo", *photos[:2])[1].startswith("2 photographs of a deleted")


def test_a_link_to_a_gallery_is_followed(engine, command, photos, tmp_path):
    """What is deleted through the link is gone from the file, and both names are one gallery."""
    real, link = tmp_path / "disk" / "real.gallery", tmp_path / "people.gallery"
    gallery = engine.enroll({"al": photos[:1], "bo": photos[6:7]}, real)
    row = gallery._stored.features[0].tobytes()
    link.symlink_to(real)
    assert command("--add", "cy", "--photo", photos[12])[0] == 0
    assert command("--remove", "al")[0] == 0
    assert link.is_symlink()
    assert row not in real.read_bytes()
    assert engine.open_gallery(real).people == engine.open_gallery(link).people == ["bo", "cy"]
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "later.gallery")
    engine.enroll({"al": photos[:1]}, dangling)
    assert engine.open_gallery(tmp_path / "later.gallery").people == ["al"]
    assert sorted(each.name for each in real.parent.iterdir()) == ["real.gallery"]


def test_a_gallery_stays_with_the_way_its_faces_were_aligned(model_path, photos, tmp_path):
    engine = TwinInferenceEngine(model_path, "cpu", align="never")
    path = tmp_path / "people.gallery"
    kept, in_memory = engine.enroll({"al": photos[:1]}, path), engine.enroll({"al": photos[:1]})
    content = path.read_bytes()
    engine.align = "auto"
    for gallery in (kept, in_memory):
        for call in (
            lambda g: g.search(photos[0]), lambda g: g.verify(photos[0], "al"), lambda g: g.add("bo", photos[1]),
            lambda g: g.remove("al"), lambda g: g.add_twins([("al", "bo")]), lambda g: g.save(tmp_path / "other"),
        ):  # fmt: skip
            with pytest.raises(ModelError, match="align='never', and this engine has 'auto'"):
                call(gallery)
    with pytest.raises(ModelError, match="align='never', and this engine has 'auto'"):
        engine.enroll({"bo": photos[1:2]}, path)
    assert path.read_bytes() == content
    engine.align = "never"
    assert kept.search(photos[0]).hits[0].similarity == pytest.approx(1, abs=1e-5)


QUALITY = {"score": 1.0, "turn": 0.0, "sharpness": 0.5}


@pytest.mark.parametrize(
    ("quality", "features", "told"),
    [
        ({}, None, "no score"),
        ({"score": 1.0}, None, "no turn"),
        (QUALITY, None, None),
        (None, np.eye(2, 10, dtype=np.float32), "features of 10 numbers, and the model's have "),
    ],
)
def test_a_gallery_that_says_too_little_is_damaged(engine, photos, tmp_path, quality, features, told):
    path = tmp_path / "people.gallery"
    stored = engine.enroll({"a": photos[:2]}, path)._stored
    photographs = tuple(each.model_copy(update={"quality": quality}) for each in stored.photographs)
    rows = stored.features if features is None else features
    changed = gallery_file.Stored(photographs, rows, stored.twins)
    gallery_file.write_gallery(path, changed, engine.source.described(), engine.align)
    if told is None:
        assert engine.open_gallery(path).verify(photos[0], "a").sizes == (1, 2)
        return
    with pytest.raises(ModelError, match=f"damaged: .*{told}"):
        engine.open_gallery(path)


@pytest.mark.parametrize("person", [None, float("nan"), 7202.0, b"al", "", True])
def test_a_row_without_a_person_is_refused_by_its_place(engine, photos, tmp_path, person):
    """Those without one were one person called None."""
    path = tmp_path / "people.gallery"
    frame = frame_of({"person": ["al", person], "image": photos[:2]})
    with pytest.raises(ManifestError, match=r"the table, row 2: a person id is text or a whole number"):
        engine.enroll(frame, path)
    with pytest.raises(ManifestError, match=r"the table, row 2: image is no path"):
        engine.enroll(frame_of({"person": ["al", "bo"], "image": [photos[0], person]}), path)
    assert not path.exists()
    assert engine.enroll(frame_of({"person": [7202, 7203], "image": photos[:2]})).people == ["7202", "7203"]


def test_a_blank_person_of_a_file_is_told_with_its_line(command, photos, tmp_path):
    table = tmp_path / "people.csv"
    table.write_text(f"person,image\n\nal,{photos[0]}\n,{photos[1]}\n")
    code, _, err = command("--enroll", table)
    assert (code, err.count("\n")) == (2, 1)
    assert "people.csv, line 4: a person id is text" in err
    assert not (tmp_path / "people.gallery").exists()


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ('[["06a", "6b"]]', "no twin pair fits (1 given), ids are not in the data set: '06a'"),
        ('[["x", "y"]]', "no twin pair fits (1 given), ids are not in the data set: x, y"),
    ],
)
def test_twins_that_fit_nobody_are_refused(command, tiny_faces, tmp_path, pairs, told):
    twins = tmp_path / "pairs.json"
    twins.write_text(pairs.replace("06a", " 6a"))
    code, _, err = command("--enroll", tiny_faces / "test", "--twins", twins)
    assert (code, err.count("error: ")) == (2, 1)
    assert told.replace("06a", " 6a") in err
    assert not (tmp_path / "people.gallery").exists()


def test_twins_of_whom_some_fit_nobody_are_named(engine, command, tiny_faces, photos, tmp_path, caplog):
    twins = tmp_path / "pairs.json"
    twins.write_text('[["6a", "6b"], [" 7a", "7b"], ["6a", "6a"]]')
    with caplog.at_level("INFO", "twin_dcal"):
        assert command("--enroll", tiny_faces / "test", "--twins", twins)[0] == 0
    assert (
        f"1 id left out, in a twin pair of {twins} but not in the data set: ' 7a' (the data set has '7a')"
        in (caplog.text)
    )
    assert "1 twin pair left out, an id paired with itself: 6a" in caplog.text
    assert engine.open_gallery(tmp_path / "people.gallery").twins == ((" 7a", "7b"), ("6a", "6b"))
    other = Path(photos[0]).read_bytes() + b"another file"
    more = engine.enroll({"c": other}, tmp_path / "people.gallery", twins=[("c", "6a")])
    assert ("6a", "c") in more.twins, "those who were enrolled before count"
    for wrong in ([("c", "c")], [("c",)], ["ab"]):
        with pytest.raises(ConfigError, match="twins"):
            engine.enroll({"c": photos[:1]}, twins=wrong)
    with pytest.raises(ManifestError, match="twins: a person id is text"):
        engine.enroll({"c": photos[:1]}, twins=[("c", None)])


def test_one_photograph_needs_no_list(engine, photos):
    assert engine.enroll({"a": photos[0], "b": Path(photos[1])}).counts() == {"a": 1, "b": 1}


def test_names_and_texts_of_a_gallery_are_told_in_one_line_each(engine, command, photos, tmp_path):
    name = "a\n     9  forged\x1b[31m"
    assert command("--add", name, "--photo", photos[0])[0] == 0
    shown = r"a\n     9  forged\x1b[31m"
    assert command("--list")[1] == f"     1  {shown}\n"
    told = command("--photo", photos[0])[1]
    assert told.splitlines()[1].endswith(f"  {shown}")
    assert "\x1b" not in told
    assert json.loads(command("--photo", photos[0], "--json")[1])["hits"][0]["person"] == name
    code, _, err = command("--remove", name, "--photo", "gone\n.png")
    assert (code, err) == (2, rf"error: person '{shown}' has no such photograph: gone\n.png" + "\n")
    code, _, err = command("--add", name, "--photo", "gone\x1b\n.png", photos[1])
    assert (code, err.count("\n"), r"gone\x1b\n.png" in err) == (0, 1, True)
    path, stored = tmp_path / "people.gallery", engine.open_gallery(tmp_path / "people.gallery")._stored
    gallery_file.write_gallery(path, stored, {"sha256": "x", "path": "\x1b[31m\nhello"}, "never")
    code, _, err = command("--list")
    assert (code, err.count("\n"), r"another model (\x1b[31m\nhello)" in err) == (2, 1, True)
