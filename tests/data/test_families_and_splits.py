"""Families are connected components; splits never cut one."""

import shutil

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin_dcal.config import DataConfig
from twin_dcal.data.families import (
    connected_families,
    find_twin_pairs,
    read_twin_pairs,
    shared_families,
    split_siblings,
)
from twin_dcal.data.manifest import load_face_data
from twin_dcal.data.splits import draw_splits, read_split
from twin_dcal.errors import ManifestError

PAIRS = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=20)
HALVES = {"val": 0.2, "test": 0.3}


@given(PAIRS)
def test_families_are_the_components_of_an_independent_graph_library(numbers):
    pairs = [(str(one), str(other)) for one, other in numbers]
    family_of = connected_families(pairs)
    groups = {}
    for person, family in family_of.items():
        groups.setdefault(family, set()).add(person)
    graph = networkx.Graph(pairs)
    assert sorted(map(sorted, groups.values())) == sorted(map(sorted, networkx.connected_components(graph)))
    assert all(family == min(group) for family, group in groups.items())


@given(PAIRS, st.randoms())
def test_families_do_not_depend_on_the_order_of_pairs(numbers, random):
    pairs = [(str(one), str(other)) for one, other in numbers]
    shuffled = [pair if random.random() < 0.5 else pair[::-1] for pair in random.sample(pairs, len(pairs))]
    assert connected_families(shuffled) == connected_families(pairs)


def test_a_long_chain_is_one_family():
    pairs = [(f"{n:05}", f"{n + 1:05}") for n in range(5000)]
    assert set(connected_families(pairs).values()) == {"00000"}


@given(PAIRS, st.integers(0, 10**6), st.randoms())
def test_drawn_splits_are_family_disjoint_and_ignore_the_order_of_people(numbers, seed, random):
    family_of = connected_families((str(one), str(other)) for one, other in numbers)
    people = [str(number) for number in range(25)]
    split_of = draw_splits(people, family_of, HALVES, seed)
    assert set(split_of) == set(people)
    for person, family in family_of.items():
        assert split_of[person] == split_of[family]
    assert shared_families(split_of, family_of) is None
    assert draw_splits(random.sample(people, len(people)), family_of, HALVES, seed) == split_of


def test_splits_have_their_share_of_twins_and_of_single_people():
    people = [f"{number:03}" for number in range(300)]
    family_of = connected_families(zip(people[0:200:2], people[1:200:2], strict=True))
    for seed in range(30):
        split_of = draw_splits(people, family_of, HALVES, seed)
        counts = {(split, person in family_of): 0 for split in ("train", "val", "test") for person in people}
        for person, split in split_of.items():
            counts[split, person in family_of] += 1
        assert counts == {
            ("train", True): 100, ("val", True): 40, ("test", True): 60,
            ("train", False): 50, ("val", False): 20, ("test", False): 30,
        }  # fmt: skip


def test_seeds_draw_different_splits():
    people = [str(number) for number in range(40)]
    drawn = {tuple(sorted(draw_splits(people, {}, HALVES, seed).items())) for seed in range(20)}
    assert len(drawn) == 20


@pytest.mark.parametrize(
    ("num_pairs", "num_single", "fractions", "expected"),
    [
        (3, 0, {"val": 0.1, "test": 0.1}, (2, 2, 2)),  # three twin families: one each
        (2, 4, {"val": 0.1, "test": 0.1}, (8, 0, 0)),  # too few of both to give any away
        (0, 6, {"val": 0.1, "test": 0.1}, (2, 2, 2)),  # no twins: two people make an impostor
        (3, 0, {"val": 0.0, "test": 0.1}, (4, 0, 2)),
        (3, 0, {"val": 0.0, "test": 0.0}, (6, 0, 0)),
        (3, 0, {"val": 0.6, "test": 0.39}, (2, 4, 0)),  # train keeps a family
        (5, 0, {}, (10, 0, 0)),
    ],
)
def test_small_data_sets(num_pairs, num_single, fractions, expected):
    people = [f"{number:02}" for number in range(2 * num_pairs + num_single)]
    twins = people[: 2 * num_pairs]
    family_of = connected_families(zip(twins[::2], twins[1::2], strict=True))
    split_of = draw_splits(people, family_of, fractions, seed=0)
    assert tuple(list(split_of.values()).count(split) for split in ("train", "val", "test")) == expected


def test_fractions_of_everything_are_refused():
    with pytest.raises(ManifestError, match=r"val_fraction 0\.5 \+ test_fraction 0\.6 leaves no family"):
        draw_splits(["a", "b"], {}, {"val": 0.5, "test": 0.6}, 0)


def test_shared_families_are_named():
    found = shared_families({"a": "train", "b": "test", "c": "val"}, {"a": "a", "b": "a"})
    assert found == "'a' (train) and 'b' (test)"
    assert shared_families({"a": "train", "b": "test"}, {}) is None


def test_series_of_files(tmp_path):
    for name in ("train_x.json", "test_x.json", "val_y.json", "x.json"):
        (tmp_path / name).write_text("[]")
    assert split_siblings(tmp_path / "test_x.json") == {
        "train": tmp_path / "train_x.json",
        "test": tmp_path / "test_x.json",
    }
    assert split_siblings(tmp_path / "x.json") == {}
    assert split_siblings(tmp_path / "trainer_x.json") == {}


def test_twin_pairs_keep_their_order_and_ids_become_text(tmp_path, write_json):
    twins = read_twin_pairs([write_json(tmp_path / "pairs.json", [[90019, "90018"], ["b", "a"]])])
    assert twins.pairs == (("90019", "90018"), ("b", "a"))
    assert twins.split_of == {}
    assert read_twin_pairs([]).pairs == ()


def test_split_file_may_leave_out_val_and_test(tmp_path, write_json):
    path = write_json(tmp_path / "split.json", {"train": ["a", 7]})
    assert read_split(path) == {"a": "train", "7": "train"}
    with pytest.raises(ManifestError, match=r"split\.json, 'train', entry 0: a person id is text"):
        read_split(write_json(path, {"train": [None]}))


# Twin pairs as tables


@pytest.mark.parametrize("name", ["twins.csv", "twins.tsv", "twins.txt"])
@pytest.mark.parametrize("separator", [",", ", ", ";", "\t"])
@pytest.mark.parametrize("heading", [None, ["Person1", "person2"], ["twin_a", "twin_b"]])
def test_twin_pairs_are_read_from_tables(tmp_path, name, separator, heading):
    rows = [*([heading] if heading else []), ["007", "x y"], ["b", "c"], ["c", "b"], ["d", "d"]]
    file = tmp_path / name
    file.write_bytes("\r\n".join(separator.join(row) for row in rows).encode("utf-8-sig"))
    twins = read_twin_pairs([file])
    assert twins.pairs == (("007", "x y"), ("b", "c"))
    assert len(twins.findings) == 2


def test_twin_pairs_of_a_text_may_stand_between_blanks(tmp_path):
    file = tmp_path / "twins.txt"
    file.write_text("id1 id2\n90018  90019\n")
    assert read_twin_pairs([file]).pairs == (("90018", "90019"),)


def test_columns_of_twin_pairs_are_found_among_others_and_tell_the_split(tmp_path):
    file = tmp_path / "twins.csv"
    file.write_text("cosine;Split;person2;person1\n0.4;train;b;a\n0.3;test;d;c\n")
    twins = read_twin_pairs([file])
    assert twins.pairs == (("a", "b"), ("c", "d"))
    assert dict(twins.split_of) == {"a": "train", "b": "train", "c": "test", "d": "test"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\nc\n", r"line 2: 1 column, not 2"),
        ("a,\n", r"line 1: an id is empty"),
        ("a,b,c\n", r"line 1: 3 columns, not 2"),
        ("name;other;note\na;b;c\n", r"line 1: 3 columns, not 2.*columns person1,person2"),
        ("person1,person2,split\na,b,dev\n", r"line 2: there is no split 'dev'"),
        ("person1,note\na,b\n", r"line 1: column person2 is missing"),
    ],
)
def test_twin_pairs_of_another_shape_in_a_table(tmp_path, text, told):
    file = tmp_path / "twins.csv"
    file.write_text(text)
    with pytest.raises(ManifestError, match=f"twins.csv, {told}"):
        read_twin_pairs([file])


def test_another_kind_of_file_is_told_what_is_read(tmp_path):
    file = tmp_path / "twins.xlsx"
    file.write_bytes(b"PK")
    with pytest.raises(
        ManifestError, match=r"twins\.xlsx: twin pairs are read from \.json, \.csv, \.tsv and \.txt"
    ):
        read_twin_pairs([file])


@pytest.mark.parametrize("name", ["twin_pairs.csv", "twin_pairs_infor.tsv", "twin_id_pairs.txt"])
def test_tables_of_twin_pairs_are_found_beside_the_data(tmp_path, name):
    (tmp_path / name).write_text("a;b\n")
    assert find_twin_pairs(tmp_path) == [tmp_path / name]
    (tmp_path / "twin_pairs_infor.json").write_text('[["a", "b"]]')
    assert find_twin_pairs(tmp_path) == [tmp_path / "twin_pairs_infor.json"]


def test_tables_of_each_split_are_one_series(tmp_path):
    for split, row in (("train", "a,b"), ("test", "c,d")):
        (tmp_path / f"{split}_twin_pairs.csv").write_text(f"twin1,twin2\n{row}\n")
    twins = read_twin_pairs(find_twin_pairs(tmp_path))
    assert dict(twins.split_of) == {"a": "train", "b": "train", "c": "test", "d": "test"}


def test_a_set_in_the_making_is_refused(tiny_faces, tmp_path):
    folder = tmp_path / "faces"
    shutil.copytree(tiny_faces, folder)
    (folder / ".unfinished").mkdir()
    with pytest.raises(ManifestError, match=r"holds an unfinished set. Finish it with dcal-synth … --resume"):
        load_face_data(DataConfig(data_dir=str(folder)), 0)
