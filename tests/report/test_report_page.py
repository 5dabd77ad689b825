"""The page as a whole: escaped, self-contained, the same twice, complete or honest about what is missing."""

import re
import stat
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import synthetic_evaluations as synthetic
from PIL import Image

from twin_dcal.errors import ConfigError
from twin_dcal.evaluation.behind import behind
from twin_dcal.evaluation.result import WorstPair
from twin_dcal.report.html import draw_plots, report_page, write_report

VOID = {"wbr", "meta", "link", "img", "br", "input", "hr"}
HOSTILE = ["<script>alert(1)</script>", '" onerror="alert(1)', "</svg></style><b>", "{{ 7 * 7 }}", "&lt;'`"]


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not close."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.open, self.parts, self.headings = Counter(), [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.parts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.parts).split())

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A generated image for every path of `small`, and the evaluation that names them."""
    root = tmp_path_factory.mktemp("made faces")
    made = synthetic.evaluation(8, 3, root=root, threshold=0.75, person=0.6)
    rng = np.random.default_rng(0)
    for path in made.points.paths:
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(path)
    assert made.false_matches
    assert made.false_non_matches
    return root, made


@pytest.fixture(scope="module")
def written(faces, tmp_path_factory):
    root, made = faces
    path = write_report(made, tmp_path_factory.mktemp("report"), root=root)
    return path, path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plots_of_faces(faces):
    return draw_plots(faces[1])


@pytest.fixture(scope="module")
def hostile(faces):
    made = hostile_evaluation(faces[1])
    return made, draw_plots(made)


def test_page_and_plots_are_written_whole_for_the_owner_only(written):
    page, text = written
    assert page.name == "report.html"
    assert text.rstrip().endswith("</html>")
    plots = sorted(page.parent.glob("visualizations/*"))
    names = ["confusion", "det", "embedding", "families", "histograms", "reliability", "roc"]
    assert [path.name for path in plots] == [
        f"{name}.{form}" for name in names for form in ("pdf", "png", "svg")
    ]
    for path in [page, *plots]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in plots:
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
                assert image.size[0] >= 1200
        else:
            end = {".pdf": b"%%EOF", ".svg": b"</svg>"}[path.suffix]
            assert path.read_bytes().rstrip().endswith(end)
    assert not list(page.parent.rglob("*.tmp"))


def test_the_same_evaluation_gives_the_same_bytes(faces, written, tmp_path):
    root, made = faces
    again = write_report(made, tmp_path, root=root)
    for path in written[0].parent.rglob("*.*"):
        assert (tmp_path / path.relative_to(written[0].parent)).read_bytes() == path.read_bytes(), path.name
    assert again.is_file()


def test_the_page_is_sound_and_loads_nothing(written):
    page = Page(written[1])
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    anchors = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    assert anchors
    assert {anchor.removeprefix("#") for anchor in anchors} <= set(ids)
    assert {value.removeprefix("#") for value in page.values("xlink:href")} <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", written[1])) <= set(ids)
    assert "http" not in written[1].replace("http-equiv", "")
    assert all(value.startswith("data:") for value in page.values("src"))
    assert page.tags["script"] == page.tags["iframe"] == page.tags["object"] == 0
    assert "@import" not in written[1]
    assert any("default-src 'none'" in value for value in page.values("content"))
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))


def test_pictures_and_tables_can_be_heard(written):
    page = Page(written[1])
    assert page.tags["img"] == len(page.values("alt")) > 0
    assert all(page.values("alt"))
    labels = [value for tag, name, value in page.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) == page.tags["figure"] == 7
    assert any(label.startswith("DET curve. twins EER") for label in labels)
    assert page.tags["th"] == len(page.values("scope"))
    assert ("html", "lang", "en") in page.attributes


def test_every_part_is_there(written, faces):
    page, figures = Page(written[1]), faces[1].figures
    assert figures["sentence"] in page.text
    for text in [*figures["warnings"], *figures["notes"]]:
        assert text in page.text
    for text in ("What was compared", "Figures by kind of impostor", "Plots", "Families", "People", "Wrong decisions",
                 "Terms", "Privacy", "3f3f3f", "eer on the twin impostors of data/val", "all pairs",
                 "16 people, 8 families (8 with twins), 48 images", "images of faces"):  # fmt: skip
        assert text in page.text
    eer = f"{100 * figures['twin']['eer']:.2f} %"
    low, high = figures["twin"]["intervals"]["eer"]
    assert f"{eer} {100 * low:.2f}–{100 * high:.2f} %" in page.text
    worst = faces[1].false_matches[0]
    assert f"{worst.score:.4f}" in page.text
    assert f"{worst.first_person}/" in page.text


def hostile_evaluation(made):
    names = HOSTILE * 4
    families = [replace(f, family=name, people=[name]) for f, name in zip(made.families, names, strict=False)]
    people = [replace(p, person=name, family=name) for p, name in zip(made.people, names, strict=False)]
    pairs = [WorstPair(f"/x/{name}.png", name, name, name, "twin", 0.5) for name in HOSTILE]
    points = replace(
        made.points, people=[HOSTILE[i % 5] for i in range(48)], families=[HOSTILE[i % 5] for i in range(48)]
    )
    figures = {
        **made.figures, "threshold_source": HOSTILE[0], "test_data": HOSTILE[1], "warnings": HOSTILE, "notes": HOSTILE,
        "model": {"path": HOSTILE[2], "sha256": HOSTILE[0], "branches": HOSTILE}, "feature_type": HOSTILE[0],
        "sentence": "".join(HOSTILE), "behind": behind(people), "protocol": {"name": HOSTILE[0]},
        "intervals": {**made.figures["intervals"], "method": HOSTILE[0]},
    }  # fmt: skip
    return replace(made, figures=figures, families=families, people=people, false_matches=pairs,
                   false_non_matches=pairs, points=points,
                   reliability=replace(made.reliability, method=HOSTILE[0]))  # fmt: skip


@pytest.mark.parametrize("how", [{}, {"images": False}, {"blur": True}])
def test_hostile_names_stay_text(faces, plots_of_faces, hostile, how):
    page = Page(report_page(*hostile, title=HOSTILE[0] + HOSTILE[1], **how))
    calm = Page(report_page(faces[1], plots_of_faces, **how))
    assert set(page.tags) - set(calm.tags) == set()
    assert page.tags["script"] == page.tags["b"] == 0
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in page.text
    assert '" onerror="alert(1)' in page.text


def test_without_images_there_is_no_image_and_no_path(faces, tmp_path):
    root, made = faces
    made = replace(made, figures={
        **made.figures,
        "test_data": str(root),
        "threshold_source": f"eer on {root}/val",
        "warnings": [f"{root}/x.png: odd"],
        "model": {**made.figures["model"], "path": str(root / "best_model.pth")},
    })  # fmt: skip
    told = write_report(made, tmp_path, images=False, root=root, formats=()).read_text()
    page = Page(told)
    assert page.tags["img"] == 0
    assert "data:" not in told.replace("img-src data:", "").replace('href="data:,"', "")
    for path in (*made.points.paths, root, root.parent, Path(synthetic.ABOUT["model"]["path"])):
        assert str(path) not in told
    assert ".png" not in told.replace("x.png: odd", "")
    assert str(root.name) + "/" not in told
    assert made.false_matches[0].first_person in page.text
    assert "no images and no file paths" in page.text


def test_a_page_says_when_and_how_it_was_made_without_absolute_paths(faces):
    root, made = faces
    made = replace(made, figures={**made.figures, "test_data": str(root)})
    told = "2026-11-28, by dcal-evaluate --model runs/a/best_model.pth --data_dir "
    page = report_page(made, root=root, made=f"{told}{root}")
    assert f"{told}{root.name}</dd>" in page
    assert str(root) not in page


def test_blurred_reports_hold_other_pixels_and_no_paths(faces, written, tmp_path):
    root, made = faces
    told = write_report(made, tmp_path, blur=True, root=root, formats=()).read_text()
    clear, blurred = Page(written[1]), Page(told)
    assert clear.tags["img"] == blurred.tags["img"] > 0
    assert not set(clear.values("src")) & set(blurred.values("src"))
    assert ".png" not in told
    assert str(root) not in told
    assert "8 values a side" in blurred.text
    assert all(value.startswith("Blurred image") for value in blurred.values("alt"))


def test_images_that_are_gone_are_said_to_be(faces):
    made = replace(
        faces[1],
        false_matches=[WorstPair("gone-1", "gone-2", "a", "b", "unrelated", 0.9)],
        false_non_matches=[],
    )
    page = Page(report_page(made))
    assert page.text.count("no image at hand") == 2
    assert page.tags["img"] == 0


def test_a_list_of_pairs_without_people_makes_a_report(tmp_path):
    made = synthetic.without_families()
    page = Page(write_report(made, tmp_path, formats=["svg"]).read_text())
    assert sorted(path.name for path in tmp_path.glob("visualizations/*")) == [
        "confusion.svg", "det.svg", "histograms.svg", "roc.svg"
    ]  # fmt: skip
    assert "impostors of unknown relation" in page.text
    assert "Families" not in page.text
    assert "no interval" in page.text
    assert "none; the notes say why" in page.text
    assert "Bands are" not in page.text


@pytest.mark.parametrize(
    "key",
    [
        "sentence",
        "behind",
        "twin",
        "unrelated",
        "headline",
        "intervals",
        "calibration",
        "folds",
        "model",
        "protocol",
    ],
)
def test_any_part_may_be_missing(small, key):
    without = {name: value for name, value in small.figures.items() if name != key}
    for figures in ({**small.figures, key: None}, without):
        Page(report_page(replace(small, figures=figures)))
    if key in ("twin", "unrelated", "intervals", "calibration"):
        made = replace(small, figures=without, points=None)
        Page(report_page(made, draw_plots(made)))


def test_no_figures_at_all_make_a_page(small):
    nothing = replace(small, figures={}, curves={}, reliability=None, points=None,
                      false_matches=[], false_non_matches=[], families=[], people=[])  # fmt: skip
    assert "no comparisons" in Page(report_page(nothing)).text


def test_no_threshold_means_that_every_pair_is_rejected(small):
    made = replace(small, figures={**small.figures, "threshold": None})
    page = Page(report_page(made, draw_plots(replace(made, points=None))))
    assert page.text.count("every pair is rejected") >= 2


def test_systems_of_others_are_named(small):
    figures = {**small.figures, "model": "ArcFace R100", "embeddings": {"path": "arc.npz", "sha256": "ab" * 32},
               "protocol": {"name": "sampled", "max_unrelated": 500, "of_unrelated": 9000}}  # fmt: skip
    text = Page(report_page(replace(small, figures=figures))).text
    assert "Model ArcFace R100" in text
    assert "Embeddings SHA-256 abab" in text
    assert "sampled, at most 500 of 9,000 unrelated pairs" in text


def test_folds_have_their_rows(realistic):
    text = Page(report_page(realistic)).text
    told = realistic.figures["folds"]["sections"]["twin"]["fmr"]
    assert "Mean of 4 folds by family" in text
    assert f"{100 * told['mean']:.2f} % ± {100 * told['sd']:.2f} %" in text


def test_long_tables_are_folded_and_capped(small):
    families, people = synthetic.many_families(3000)
    told = report_page(replace(small, families=families, people=people))
    page = Page(told)
    assert "490 more of 3,000 families" in page.text
    assert "490 more of 6,000 people" in page.text
    assert len(told) < 700_000
    assert "families.csv" in page.text
    assert "people.csv" in page.text
    assert ".csv" not in report_page(small)
    outside = told[: told.index("<details>")]
    assert outside.count('<th scope="row">0') == 10


def test_a_full_report_stays_small(faces, plots_of_faces, tmp_path):
    root, made = faces
    big = np.random.default_rng(0).integers(
        0, 255, (400, 400, 3), dtype=np.uint8
    )  # noise: the worst for JPEG
    Image.fromarray(big).save(tmp_path / "noise.png")
    pair = WorstPair(str(tmp_path / "noise.png"), str(tmp_path / "noise.png"), "a", "b", "twin", 0.9)
    pairs = [replace(pair, kind=kind) for kind in ("twin", "unrelated", "genuine") for _ in range(24)]
    made = replace(made, false_matches=pairs[:48], false_non_matches=pairs[48:])
    assert len(report_page(made, plots_of_faces, root=root)) < 3_000_000  # no plot shows the pictures


def test_an_unknown_format_is_refused_before_anything_is_written(small, tmp_path):
    with pytest.raises(ConfigError, match="plot format 'gif' is unknown. Use any of png, pdf, svg."):
        write_report(small, tmp_path / "out", formats=["png", "gif"])
    assert not (tmp_path / "out").exists()
