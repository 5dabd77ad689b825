"""A heading that is there twice: no reader of tables guesses which of the columns is meant, and none loses one."""

from types import SimpleNamespace

import numpy as np
import pytest

from twin_dcal.data.families import read_twin_pairs
from twin_dcal.data.pairs import read_pairs
from twin_dcal.data.tables import headings
from twin_dcal.errors import ManifestError, TwinDcalError
from twin_dcal.evaluation.metadata import read_metadata
from twin_dcal.evaluation.score_files import read_scores
from twin_dcal.evaluation.templates import _listed
from twin_dcal.inference.records import read_table
from twin_dcal.prepare.run import _decisions

COMPARED = SimpleNamespace(people=np.array(["a"]), names=["a.jpg"], source="the data set", families=None)
READERS = {
    "pairs to decide": (lambda path: read_table(path, ("img1", "img2")), "img1,Img1,img2", "img1"),
    "a column that is kept": (lambda path: read_table(path, ("img1", "img2")), "img1,img2,note,note", "note"),
    "people to enroll": (lambda path: read_table(path, ("person", "image")), "person,person,image", "person"),
    "labelled pairs": (read_pairs, "img1,img2,label,fold,fold", "fold"),
    "twin pairs": (lambda path: read_twin_pairs([path]), "person1,person2,person1", "person1"),
    "scores": (read_scores, "img1,img2,score,score,label", "score"),
    "metadata": (lambda path: read_metadata(path, COMPARED), "person,sex,SEX", "sex"),
    "templates": (
        lambda path: list(_listed(np.array(["a"]), ["a.jpg"], path)), "template,person,image,image", "image"
    ),
    "photos to keep": (_decisions, "photo,keep,keep", "keep"),
}  # fmt: skip


@pytest.mark.parametrize(("read", "line", "twice"), READERS.values(), ids=READERS)
def test_a_heading_that_is_there_twice_is_refused(tmp_path, read, line, twice):
    path = tmp_path / "table.csv"
    path.write_text(f"{line}\n{','.join('1' * (line.count(',') + 1))}\n")
    with pytest.raises(TwinDcalError, match=rf"table\.csv(, line 1)?: two columns are called '{twice}'"):
        read(path)


@pytest.mark.parametrize("names", [["img1", "img2", "score", "score"], ["img1", "IMG1", "img2", "score"]])
def test_so_it_is_in_parquet_files(tmp_path, names):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.Table.from_arrays([arrow.array(["1"])] * len(names), names=names)
    parquet.write_table(table, tmp_path / "table.parquet")
    for read in (read_scores, lambda path: read_table(path, ("img1", "img2"))):
        with pytest.raises(TwinDcalError, match=r"table\.parquet: two columns are called '(score|img1)'"):
            read(tmp_path / "table.parquet")


def test_columns_without_a_heading_are_no_two_of_one_name(tmp_path):
    assert headings(["A", "", "b", ""], "table.csv", ManifestError) == ["a", "", "b", ""]
    path = tmp_path / "table.csv"
    path.write_text("img1,img2,,\na,b,x,y\n")
    with pytest.raises(ManifestError, match="2 columns without a heading"):
        read_table(path, ("img1", "img2"))  # which keeps them all
