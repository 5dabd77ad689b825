"""The page of clusters: groups, where people may be mixed up, nothing but itself, and names that are no markup."""

import re

import numpy as np
from PIL import Image

from twin_dcal.inference.clusters import Clusters
from twin_dcal.report.clusters_page import write_clusters_page


def found(paths):
    return Clusters(
        tuple(paths),
        np.array([0, 0, 1, 2]),
        (0.8, None, None),
        (0.4, 0.6, 0.6),
        0.7,
        ("bad.png: empty file",),
        (1, 2, 1),
    )


def test_groups_and_where_to_look_first(tmp_path):
    names = [str(tmp_path / name) for name in ("a.png", "b.png", "<i>c.png")]
    for name in names:
        Image.new("RGB", (40, 40), "teal").save(name)
    path = write_clusters_page(found([*names, None]), tmp_path / "out" / "clusters.html")
    text = path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert text.count("<img") == 3
    assert "&lt;i&gt;c.png" in text
    assert "<i>" not in text
    assert "Group 1: 2 photographs" in text
    assert "bad.png: empty file" in text
    assert str(tmp_path) not in text
    rows = re.findall(r"<tr>(.*?)</tr>", text)
    told = [re.sub(r"<[^>]+>", " ", row).split() for row in rows]
    assert ["1", "2", "0.800"] in told
    pairs = [row for row in told if "and" in row]
    assert pairs == [["2", "and", "3", "0.600", "0.100"], ["1", "and", "2", "0.400", "0.300"]]  # 2 and 3 once
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "<script" not in text


def test_no_images_on_request(tmp_path):
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "a.png")
    page = write_clusters_page(
        found([str(tmp_path / "a.png"), *[None] * 3]), tmp_path / "c.html", images=False
    )
    assert "<img" not in page.read_text()


def test_a_single_group_has_no_nearest(tmp_path):
    one = Clusters((None, None), np.array([0, 0]), (0.9,), (None,), 0.5, (), (None,))
    assert "The nearest is" not in write_clusters_page(one, tmp_path / "c.html").read_text()
