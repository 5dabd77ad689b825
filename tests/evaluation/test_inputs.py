"""reading.py: data sets, pairs, embeddings and scores joined with people and families, contradictions by line."""

import json

import numpy as np
import pytest
from made_faces import faces

from twin_dcal.errors import ManifestError, MetricError
from twin_dcal.evaluation.embedding_files import read_embeddings, write_embeddings
from twin_dcal.evaluation.evaluate import Decision, EvaluationOptions, evaluate
from twin_dcal.evaluation.inputs import (
    DataFiles,
    join_embeddings,
    join_scores,
    keep_to_split,
    read_comparisons,
    refuse_shared_families,
)
from twin_dcal.evaluation.protocol import Comparisons, pair_source
from twin_dcal.evaluation.score_files import read_scores
from twin_dcal.evaluation.systems import ScoresSystem
from twin_dcal.metrics.pairs import PairKind

NOTHING = DataFiles()


def people(source, *members):
    """Comparisons of one image each of (person, family)."""
    names = [f"/{source}/{person}.jpg" for person, _ in members]
    labels = [np.array(column) for column in zip(*members, strict=True)]
    return Comparisons(source, names, *labels, None, {"name": "all pairs"}, dict(members))


def test_a_data_set_is_all_pairs_of_its_split(tiny_faces):
    comparisons = read_comparisons(tiny_faces, NOTHING, "test")
    assert comparisons.known_people() == {"6a", "6b", "7a", "7b"}
    assert comparisons.known_families() == {"6a", "7a"}  # the smallest id of the family
    assert len(comparisons.names) == 24
    assert comparisons.pairs is None
    assert comparisons.family_of["0b"] == "0a"
    assert read_comparisons(tiny_faces, NOTHING, "all").known_people() > comparisons.known_people()


def test_listed_pairs_take_their_kinds_from_the_data_set(tiny_faces, tmp_path):
    listed = tmp_path / "pairs.txt"
    root = tiny_faces / "test"
    lines = [
        f"{root}/6a/0.png {root}/6a/1.png 1",
        f"{root}/6a/0.png {root}/6b/1.png 0",
        f"{root}/7a/0.png {root}/6b/1.png 0",
    ]
    listed.write_text("\n".join(lines))
    plain = read_comparisons(listed, NOTHING, "test")
    assert plain.people is None
    assert plain.pairs.kinds.tolist() == [PairKind.GENUINE, PairKind.OTHER, PairKind.OTHER]
    files = DataFiles(dataset_info=str(tiny_faces / "dataset_infor.json"))
    known = read_comparisons(listed, files, "test")
    assert known.pairs.kinds.tolist() == [PairKind.GENUINE, PairKind.TWIN, PairKind.UNRELATED]
    assert known.people.tolist() == ["6a", "6a", "6b", "7a"]
    assert known.protocol == {"name": "listed", "num_pairs": 3}
    listed.write_text(lines[0].replace(" 1", " 0"))
    with pytest.raises(ManifestError, match=r"pairs\.txt: 1 label contradicts the data set \S+, first"):
        read_comparisons(listed, files, "test")


def test_a_person_a_family_or_an_image_in_both_sets_is_refused():
    test = people("test", ("6a", "6a"), ("7a", "7a"))
    with pytest.raises(ManifestError, match=r"val and test share people 6a"):
        refuse_shared_families(test, people("val", ("6a", "6a"), ("5a", "5a")))
    with pytest.raises(ManifestError, match=r"val and test share families 6a \(different twins of each\)"):
        refuse_shared_families(test, people("val", ("6b", "6a"), ("5a", "5a")))
    refuse_shared_families(test, people("val", ("5b", "5a"), ("5a", "5a")))
    image = Comparisons("val", ["/test/6a.jpg"], None, None, None, {})
    with pytest.raises(ManifestError, match=r"share images, first \S*/test/6a\.jpg"):
        refuse_shared_families(test, image)
    refuse_shared_families(test, Comparisons("val", ["/val/6a.jpg"], None, None, None, {}))


def test_a_twin_known_to_one_side_only_is_found():
    """The validation set was read without twin pairs: there 6b is a family of one; the test set knows better."""
    test = people("test", ("6a", "6a"), ("7a", "7a"))
    test.family_of["6b"] = "6a"
    alone = people("val", ("6b", "6b"), ("5a", "5a"))
    with pytest.raises(ManifestError, match="share families 6a"):
        refuse_shared_families(test, alone)
    with pytest.raises(ManifestError, match="share families 6a"):
        refuse_shared_families(alone, test)


def test_the_models_own_split_is_kept(caplog):
    comparisons = people("set", *((name, name) for name in "abcdef"))
    recorded = {"train": ["a", "b"], "val": ["c"], "test": ["d", "e", "f"]}
    assert keep_to_split(comparisons, "test", recorded).known_people() == {"d", "e", "f"}
    assert keep_to_split(comparisons, "val", recorded).known_people() == {"c"}
    with pytest.raises(ManifestError, match="leaves no val people"):
        keep_to_split(comparisons, "val", {**recorded, "val": []})
    caplog.clear()
    some = people("set", ("a", "a"), ("x", "x"))
    assert keep_to_split(some, "test", recorded) is some
    assert "1 person with ids the model was trained on (a)" in caplog.text
    assert keep_to_split(comparisons, "test", {}) is comparisons


@pytest.fixture
def stored(tmp_path):
    comparisons, vectors = faces(3, images_each=2)
    write_embeddings(tmp_path / "e.npz", comparisons, vectors, {})
    return comparisons, vectors, tmp_path / "e.npz"


def test_embeddings_bring_their_own_identities_or_join_a_data_set(stored, caplog):
    comparisons, vectors, path = stored
    caplog.set_level("INFO", logger="twin_dcal")
    own, mine = join_embeddings(read_embeddings(path), None)
    assert own.people.tolist() == comparisons.people.tolist()
    assert np.array_equal(mine, vectors)
    wanted = Comparisons(
        "set", comparisons.names[4:2:-1], np.array(["p", "q"]), np.array(["p", "q"]), None, {}
    )
    joined, theirs = join_embeddings(read_embeddings(path), wanted)
    assert joined is wanted
    assert np.array_equal(theirs, vectors[4:2:-1])
    assert "2 of 12 vectors used, those of images of set" in caplog.text


def test_an_image_missing_from_the_embeddings_has_a_vector_of_zeros(stored):
    comparisons, vectors, path = stored
    others = [f"/data/root/F09a/{number}.jpg" for number in range(12)]
    more = Comparisons("set", [*comparisons.names, *others[:1]], None, None, None, {})
    joined, theirs = join_embeddings(read_embeddings(path), more)
    assert joined is more
    assert np.array_equal(theirs, [*vectors, np.zeros(vectors.shape[1])])
    foreign = Comparisons("set", [*comparisons.names, *others], None, None, None, {})
    with pytest.raises(
        MetricError, match=r"e\.npz: 12 of 24 images of set missing, first: /data/root/F09a/0\.jpg"
    ):
        join_embeddings(read_embeddings(path), foreign)


def test_embeddings_without_identities_need_a_data_set(tmp_path):
    np.savez(tmp_path / "e.npz", features=np.eye(2), ids=np.array(["a", "b"]))
    with pytest.raises(
        MetricError, match=r"e\.npz: it does not say whose its images are\. Name the data set"
    ):
        join_embeddings(read_embeddings(tmp_path / "e.npz"), None)


def scores_file(tmp_path, *lines):
    path = tmp_path / "s.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_scores(path)


SET = Comparisons(
    "set", ["/set/p/1.jpg", "/set/p/2.jpg", "/set/q/3.jpg", "/set/r/4.jpg"],
    np.array(["p", "p", "q", "r"]), np.array(["f", "f", "f", "r"]), None, {}, {"p": "f"},
)  # fmt: skip


def test_scores_take_kinds_from_the_data_set(tmp_path):
    for head, cells in (("img1,img2,score", ["", "", ""]), ("img1,img2,score,label", [",1", ",0", ",0"])):
        rows = ["1,p/2.jpg,0.9", "3,/else/set/p/1.jpg,0.5", "4,1,0.1"]
        table = scores_file(tmp_path, head, *(row + cell for row, cell in zip(rows, cells, strict=True)))
        comparisons = join_scores(table, SET)
        assert comparisons.pairs.kinds.tolist() == [PairKind.GENUINE, PairKind.TWIN, PairKind.UNRELATED]
        assert comparisons.names[0] == "/set/p/1.jpg"  # the data set's own path
        assert comparisons.families.tolist() == [
            "f",
            "f",
            "f",
            "f",
            "r",
        ]  # by name; "1" and "/else/…/1.jpg" are two names


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["img1,img2,score,label", "1,2,0.9,0"],
            r"s\.csv, line 2: other, but 1 \(person p\) and 2 \(person p\) are genuine",
        ),
        (
            ["img1,img2,score,label", "1,2,0.9,1", "1,3,0.9,1"],
            r"line 3: genuine, but 1 .* and 3 \(person q\) are twin",
        ),
        (["img1,img2,score,kind", "1,3,0.9,unrelated"], r"line 2: unrelated, but .* are twin"),
        (
            ["img1,img2,score,kind", "1,4,0.9,twin", "3,4,1,twin"],
            r"line 2: twin, but .* are unrelated, as are 1 more",
        ),
        (["img1,img2,score", "1,9,0.9"], r"s\.csv: 1 of 2 images not in set, first: 9"),
    ],
)
def test_labels_against_the_data_set_are_named_by_line(tmp_path, lines, message):
    with pytest.raises(MetricError, match=message):
        join_scores(scores_file(tmp_path, *lines), SET)


def test_scores_with_their_own_columns(tmp_path):
    head = "img1,img2,score,kind,person1,person2"
    comparisons = join_scores(
        scores_file(tmp_path, head, "a,b,1,genuine,p,p", "a,c,0,twin,p,q", "b,c,0,other,p,q"), None
    )
    assert comparisons.pairs.kinds.tolist() == [PairKind.GENUINE, PairKind.TWIN, PairKind.OTHER]
    assert comparisons.families is None
    with pytest.raises(
        MetricError, match=r"line 2: genuine, but a \(person p\) and b \(person q\) are no genuine pair"
    ):
        join_scores(scores_file(tmp_path, head, "a,b,1,genuine,p,q"), None)
    bare = join_scores(
        scores_file(tmp_path, "img1,img2,score,person1,person2", "a,b,1,p,p", "a,c,0,p,q"), None
    )
    assert bare.pairs.kinds.tolist() == [PairKind.GENUINE, PairKind.OTHER]
    full = scores_file(tmp_path, f"{head},family1,family2", "a,b,1,twin,p,q,f,f", "a,c,0,twin,p,r,f,g")
    with pytest.raises(MetricError, match=r"line 3: twin, but .* are unrelated, as are 0 more"):
        join_scores(full, None)


def test_a_person_of_two_families_is_refused(tmp_path):
    head = "img1,img2,score,person1,person2,family1,family2"
    with pytest.raises(MetricError, match=r"s\.csv: person p is in family \S+ and in \S+\."):
        join_scores(scores_file(tmp_path, head, "a,b,1,p,q,f,f", "c,b,1,p,q,g,f"), None)


def test_scores_that_say_nothing_are_refused(tmp_path):
    with pytest.raises(MetricError, match=r"s\.csv, line 2: no column kind or label, and no people"):
        join_scores(scores_file(tmp_path, "img1,img2,score", "a,b,1"), None)
    pairs = Comparisons("pairs.txt", ["a", "b"], None, None, None, {})
    with pytest.raises(MetricError, match=r"pairs\.txt: a list of pairs does not say whose"):
        join_scores(scores_file(tmp_path, "img1,img2,score", "a,b,1"), pairs)


def test_twin_pairs_are_those_the_data_room_finds(tiny_faces, tmp_path):
    """A split's folder alone: its twins are listed in the folder above it."""
    assert read_comparisons(tiny_faces / "test", NOTHING, "test").known_families() == {"6a", "7a"}
    pairs = tmp_path / "named.json"
    pairs.write_text(json.dumps([["6a", "7b"]]))
    named = read_comparisons(tiny_faces / "test", DataFiles(twin_pairs=str(pairs)), "test")
    assert named.known_families() == {"6a", "6b", "7a"}
    info = read_comparisons(tiny_faces / "dataset_infor.json", NOTHING, "val")
    assert info.known_families() == {"4a", "5a"}


def listed(folder, rows, name="test_pairs.txt"):
    path = folder / name
    path.write_text("\n".join(f"{one} {other} {label}" for one, other, label in rows))
    return path


ROWS = [
    ("test/6a/0.png", "test/6a/1.png", 1),
    ("test/6a/0.png", "test/6b/1.png", 0),
    ("test/7a/0.png", "test/6b/1.png", 0),
]
KINDS = [PairKind.GENUINE, PairKind.TWIN, PairKind.UNRELATED]


@pytest.fixture
def own_faces(tiny_faces, tmp_path):
    """A data set's folder of its own, to add files to."""
    for name in ("train", "val", "test"):
        (tmp_path / name).symlink_to(tiny_faces / name)
    for name in ("dataset_infor.json", "twin_pairs_infor.json"):
        (tmp_path / name).write_text((tiny_faces / name).read_text())
    return tmp_path


def test_twins_of_a_list_come_from_what_lies_beside_it(own_faces, caplog):
    caplog.set_level("INFO")
    comparisons = read_comparisons(listed(own_faces, ROWS), NOTHING, "test")
    assert comparisons.pairs.kinds.tolist() == KINDS
    assert comparisons.families.tolist() == ["6a", "6a", "6a", "7a"]
    assert "twins are told apart by twin_pairs_infor.json" in caplog.text
    (own_faces / "twin_pairs_infor.json").unlink()
    plain = read_comparisons(own_faces / "test_pairs.txt", NOTHING, "test")
    assert plain.people is None
    assert plain.pairs.kinds.tolist() == [PairKind.GENUINE, PairKind.OTHER, PairKind.OTHER]


@pytest.mark.parametrize("named", ["data_dir", "dataset_info", "twin_pairs"])
def test_what_is_named_beside_a_list_is_used(tiny_faces, tmp_path, named):
    path = listed(tmp_path, [(tiny_faces / one, tiny_faces / other, label) for one, other, label in ROWS])
    given = {"data_dir": "", "dataset_info": "dataset_infor.json", "twin_pairs": "twin_pairs_infor.json"}[
        named
    ]
    comparisons = read_comparisons(path, DataFiles(**{named: str(tiny_faces / given)}), "test")
    assert comparisons.pairs.kinds.tolist() == KINDS
    gone = DataFiles(**{named: str(tmp_path / "gone.json")})
    with pytest.raises(ManifestError, match=r"gone\.json"):
        read_comparisons(path, gone, "test")


def test_a_list_finds_its_images_below_the_named_data_set(tiny_faces, tmp_path):
    comparisons = read_comparisons(listed(tmp_path, ROWS), DataFiles(data_dir=str(tiny_faces)), "test")
    assert comparisons.pairs.kinds.tolist() == KINDS


def test_twin_pairs_that_cannot_be_joined_with_a_list_are_refused_or_told(tiny_faces, tmp_path, caplog):
    """The folders' names are no people, and no data set is there."""
    rows = [(tiny_faces / one, tiny_faces / other, label) for one, other, label in ROWS]
    path = listed(tmp_path, [*rows, (tiny_faces / "test/6a/2.png", tiny_faces / "test/7a/3.png", 1)])
    twins = tmp_path / "twin_pairs_infor.json"
    twins.write_text('[["6a", "6b"]]')
    with pytest.raises(ManifestError, match="1 label contradicts the people by name"):
        read_comparisons(path, DataFiles(twin_pairs=str(twins)), "test")
    comparisons = read_comparisons(path, NOTHING, "test")
    assert comparisons.people is None
    assert len(comparisons.warnings) == 1
    assert comparisons.warnings[0].startswith(
        f"twins are not told apart: {twins} beside the list cannot be used ("
    )
    assert comparisons.warnings[0] in caplog.text
    with pytest.raises(ManifestError, match=r"twins are not told apart.*\(strict\)"):
        read_comparisons(path, DataFiles(strict=True), "test")
    twins.write_text('[["006a", "06b"]]')
    with pytest.raises(ManifestError, match=r"no twin pair fits \(1 given\)"):
        read_comparisons(listed(tmp_path, rows), DataFiles(twin_pairs=str(twins)), "test")


def test_ids_that_nearly_fit_are_a_warning_of_the_figures(own_faces):
    (own_faces / "twin_pairs_infor.json").write_text('[["6A", "6b"], ["7a", "7b"]]')
    comparisons = read_comparisons(own_faces, NOTHING, "test")
    assert "'6A' (the data set has '6a')" in comparisons.warnings[0]
    source = pair_source(comparisons, np.random.default_rng(0).normal(size=(len(comparisons.names), 8)))
    assert (
        comparisons.warnings[0]
        in evaluate(source, comparisons, Decision(), EvaluationOptions(num_replicates=0)).figures["warnings"]
    )


def test_lists_that_name_people_need_no_data_set(tmp_path, tiny_faces):
    for person in ("6a", "6b", "7a"):
        for number in (1, 2):
            (tmp_path / person).mkdir(exist_ok=True)
            image = (tiny_faces / "test" / person / f"{number}.png").read_bytes()
            (tmp_path / person / f"{person}_{number:04d}.png").write_bytes(image)
    path = tmp_path / "pairs.txt"
    path.write_text("2\n6a\t1\t2\n6b\t1\t2\n6a\t1\t6b\t2\n6a\t1\t7a\t2\n")
    comparisons = read_comparisons(path, NOTHING, "test")
    assert comparisons.known_people() == {"6a", "6b", "7a"}
    genuine, unrelated = PairKind.GENUINE, PairKind.UNRELATED
    assert comparisons.pairs.kinds.tolist() == [genuine, genuine, unrelated, unrelated]
    named = read_comparisons(path, DataFiles(twin_pairs=str(tiny_faces / "twin_pairs_infor.json")), "test")
    assert named.pairs.kinds.tolist() == [genuine, genuine, PairKind.TWIN, unrelated]


def test_twin_pairs_beside_scores_and_embeddings_with_people(tmp_path):
    twins = tmp_path / "twins.json"
    twins.write_text('[["p", "q"]]')
    table = scores_file(
        tmp_path, "img1,img2,score,person1,person2", "1,2,0.9,p,p", "1,3,0.5,p,q", "1,4,0.1,p,r"
    )
    assert join_scores(table, None).families is None
    comparisons = join_scores(table, None, str(twins))
    assert comparisons.pairs.kinds.tolist() == KINDS
    assert comparisons.family_of == {"p": "p", "q": "p"}
    np.savez(
        tmp_path / "e.npz",
        features=np.eye(3),
        ids=np.array(["a", "b", "c"]),
        people=np.array(["p", "q", "r"]),
    )
    joined, _ = join_embeddings(read_embeddings(tmp_path / "e.npz"), None, str(twins))
    assert joined.families.tolist() == ["p", "p", "r"]
    with pytest.raises(MetricError, match="names people, and it does not say whose images are"):
        join_scores(scores_file(tmp_path, "img1,img2,score,label", "1,2,0.9,1"), None, str(twins))
    full = "img1,img2,score,person1,person2,family1,family2"
    table = scores_file(tmp_path, full, "1,3,0.5,p,q,f,g", "1,2,0.9,p,p,f,f")
    with pytest.raises(MetricError, match="the family of 'p' in .* has two families here"):
        join_scores(table, None, str(twins))
    twins.write_text('[["P", "Q"]]')
    with pytest.raises(ManifestError, match=r"no twin pair fits \(1 given\)"):
        join_scores(table, None, str(twins))


def test_scores_of_validation_take_their_people_from_the_data_set(tmp_path, tiny_faces):
    head = "img1,img2,score"
    (tmp_path / "val.csv").write_text(f"{head}\n4a/0.png,4a/1.png,0.9\n4a/0.png,4b/0.png,0.1\n")
    table = scores_file(tmp_path, head, "6a/0.png,6a/1.png,0.9", "6a/0.png,6b/1.png,0.2")
    system = ScoresSystem(table, DataFiles(data_dir=str(tiny_faces)))
    assert system.scored(str(tmp_path / "val.csv"), "val").comparisons.known_people() == {"4a", "4b"}
