"""The page of a comparison: tables as they are, names that are markup as text, pairs on which systems disagree."""

import re
from html import escape

import numpy as np
import pytest
from PIL import Image

from twin_dcal.cli.evaluate import main
from twin_dcal.evaluation.embedding_files import write_embeddings
from twin_dcal.evaluation.protocol import Comparisons
from twin_dcal.report.comparison_page import blocks


@pytest.fixture
def compared(tmp_path):
    """Two systems on images that are there, the second one noisy; its name is markup."""
    rng = np.random.default_rng(0)
    names, people, families, rows = [], [], [], []
    for family in range(6):
        centre = rng.normal(size=8)
        for twin in "ab":
            own = centre + 0.7 * rng.normal(size=8)
            for number in range(3):
                path = tmp_path / "faces" / f"F{family}{twin}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (12, 12), (40 * family, 90, 200)).save(path)
                names.append(str(path))
                people.append(f"F{family}{twin}")
                families.append(f"F{family}")
                rows.append(own + 0.4 * rng.normal(size=8))
    comparisons = Comparisons(
        "made", names, np.array(people), np.array(families), None, {"name": "all pairs"}
    )
    vectors = np.array(rows, np.float32)
    write_embeddings(tmp_path / "a.npz", comparisons, vectors, {})
    noisy = vectors + 0.9 * rng.normal(size=vectors.shape).astype(np.float32)
    write_embeddings(tmp_path / "<b>&.npz", comparisons, noisy, {})
    return tmp_path


@pytest.mark.parametrize("option", [None, "--no_images", "--blur_images"])
def test_the_page_of_a_comparison(compared, option, capsys):
    out = compared / "out"
    given = ["--compare", str(compared / "a.npz"), str(compared / "<b>&.npz"), "--output_dir", str(out)]
    assert main([*given, "--visualize", *([] if option is None else [option])]) == 0
    assert f"page: {out / 'comparison.html'}" in capsys.readouterr().out
    page = (out / "comparison.html").read_text("utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;.npz" in page
    assert "<script" not in page
    assert page.count("<svg") == 1
    assert "is right" in page
    pictures = len(re.findall(r'<img src="data:image', page))
    assert (pictures > 0) == (option != "--no_images")
    assert (str(compared / "faces") in page) is False
    for line in (out / "comparison.md").read_text("utf-8").splitlines():
        if line.startswith("| twin |"):
            for cell in line.strip("| ").split(" | ")[2:]:
                assert escape(cell) in page
    assert (out / "disagreements.csv").is_file()


def test_markdown_of_ours_is_taken_apart():
    text = "| a | b |\n|---|---|\n| 1 |  |\n| 2 | x [1, 2] |\n\nOne sentence.\nAnother.\n"
    assert blocks(text) == [
        {"head": ["a", "b"], "rows": [["1", ""], ["2", "x [1, 2]"]]},
        {"text": "One sentence."},
        {"text": "Another."},
    ]
