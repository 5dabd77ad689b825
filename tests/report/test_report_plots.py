"""Every plot: drawn from whatever there is, true to the data, nothing clipped, the same bytes twice."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from statistics import NormalDist

import matplotlib
import numpy as np
import pytest
import synthetic_evaluations as synthetic
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from twin_dcal.evaluation.result import Curve, Histograms
from twin_dcal.report import curves, html, plots, projection
from twin_dcal.report.rendering import compact, inline, render
from twin_dcal.report.theme import LIGHT, drawing

PLOTS = ["roc", "det", "histograms", "confusion", "reliability", "families", "embedding"]
VARIANTS = {
    "one family": lambda: synthetic.evaluation(1, 6),
    "no intervals": lambda: synthetic.evaluation(3, 3, num_replicates=0),
    "no twins": lambda: synthetic.evaluation(0, 6, singles=12),
    "chance": lambda: synthetic.evaluation(12, 4, person=0.05, noise=3.0, threshold=0.1),
    "no errors": lambda: synthetic.evaluation(8, 4, person=3.0, noise=0.05, dim=64),
    "no families": synthetic.without_families,
}


@pytest.fixture(scope="module")
def drawn(realistic):
    return {plot.name: plot for plot in html.draw_plots(realistic)}


def drawn_line(axes, colour, number):
    """x and y of a curve: its thin part and its firm part, put together."""
    lines = [line for line in axes.lines if line.get_color() == colour and len(line.get_xdata()) > number]
    parts = sorted(
        (line.get_xydata() for line in lines if line.get_marker() == "None"), key=lambda part: part[0, 0]
    )
    return np.concatenate(parts).T


def distance(place, x, y):
    """From a point to the nearest of a line's pieces; x of the point in the units of `x` times 6."""
    where = np.array([place[0] / 6, place[1]])
    one, two = np.stack([x, y], 1)[:-1], np.stack([x, y], 1)[1:]
    length = np.maximum(((two - one) ** 2).sum(1), 1e-300)
    at = np.clip(((where - one) * (two - one)).sum(1) / length, 0, 1)
    return float(np.hypot(*(where - one - at[:, None] * (two - one)).T).min())


def clipped(figure):
    """Texts that reach over the edge of the picture."""
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    unseen = set()
    for axes in figure.axes:  # ticks beyond the limits have labels that are never drawn
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in axis.get_major_ticks():
                if not min(limits) <= tick.get_loc() <= max(limits):
                    unseen |= {tick.label1, tick.label2}
    texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text not in unseen]
    room = figure.bbox.padded(1)
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_visible()]
    return [
        text for text, box in boxes if not (room.contains(box.x0, box.y0) and room.contains(box.x1, box.y1))
    ]


def touching(figure):
    """Neighbouring numbers on an axis that leave less than 3 points between them."""
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    found = []
    for axes in figure.axes:
        for axis, side in ((axes.xaxis, 0), (axes.yaxis, 1)):
            low, high = sorted(axis.get_view_interval())
            labels = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            labels = [label for label in labels if label.get_visible() and label.get_text()]
            boxes = sorted(
                label.get_window_extent(renderer).get_points()[:, side].tolist() for label in labels
            )
            found += [pair for pair in pairwise(boxes) if pair[1][0] - pair[0][1] < 3]
    return found


def test_every_plot_is_drawn(drawn):
    assert list(drawn) == PLOTS


@pytest.mark.parametrize("name", ["realistic", *VARIANTS])
def test_only_known_colours_and_no_clipped_text(name, drawn):
    for plot in drawn.values() if name == "realistic" else html.draw_plots(VARIANTS[name]()):
        page = inline(plot.svg.decode(), "")
        assert not re.findall(r"(?:fill|stroke): #", page), plot.name
        assert "var(--" in page
        assert clipped(plot.figure) == [], plot.name
        assert touching(plot.figure) == [], plot.name


def test_what_there_is_decides_what_is_drawn():
    names = [plot.name for plot in html.draw_plots(synthetic.without_families())]
    assert names == ["roc", "det", "histograms", "confusion"]
    made = replace(synthetic.without_families(), curves={}, histograms=Histograms(np.linspace(0, 1, 3), {}))
    assert [plot.name for plot in html.draw_plots(replace(made, figures={}))] == []


def test_three_thousand_families_stay_small_and_legible(small):
    families, people = synthetic.many_families(3000, "family-with-a-very-long-identifier-")
    many = replace(small, families=families, people=people)
    with drawing("families"):
        figure = plots.family_figure(many)
    svg = render(figure, "families", "svg")
    assert len(svg) < 60_000
    assert "worst of 3,000 families: family…" in svg.decode()
    assert clipped(figure) == []
    overall = 100 * sum(f.num_twin_false_matches for f in families) / sum(f.num_twin for f in families)
    assert f"{overall:.3g} %" in svg.decode()


def test_roc_and_det_go_through_the_operating_points(realistic, drawn):
    probit = NormalDist().inv_cdf
    for name in ("twin", "unrelated", "all"):
        curve, section = realistic.curves[name], realistic.figures[name]
        colour = LIGHT[name]
        x, y = drawn_line(drawn["roc"].figure.axes[0], colour, 1)
        for point in section["tar_at_far"]:
            if point["supported"]:
                place = math.log10(point["fmr_achieved"]), point["tar"]
                assert distance(place, x / 6, y) < 0.004, (name, point)
        assert x[0] == pytest.approx(math.log10(1 / section["num_impostors"]), abs=1e-6)
        assert y[-1] == 1
        x, y = drawn_line(drawn["det"].figure.axes[0], colour, 1)
        assert np.interp(probit(section["eer"]), x, y) == pytest.approx(probit(section["eer"]), abs=0.05)
        assert (np.diff(x) >= 0).all()
        assert (np.diff(y) <= 0).all()
        assert curve.fmr.size > 3


def test_a_curve_is_thin_where_fewer_than_30_false_matches_stand_behind_it(realistic, drawn):
    axes = drawn["roc"].figure.axes[0]
    lines = [line for line in axes.lines if line.get_color() == LIGHT["twin"] and line.get_marker() == "None"]
    thin, firm = sorted(lines, key=lambda line: line.get_linewidth())
    edge = math.log10(30 / realistic.figures["twin"]["num_impostors"])
    assert thin.get_xdata().max() == pytest.approx(edge)
    assert firm.get_xdata().min() == pytest.approx(edge)
    assert thin.get_linewidth() < 1 < firm.get_linewidth()


def test_rings_stand_at_the_decision_threshold(realistic, drawn):
    at = realistic.figures["twin"]["confusion"]
    rings = [
        line.get_xydata()[0]
        for line in drawn["roc"].figure.axes[0].lines
        if line.get_marker() == "o" and line.get_markeredgecolor() == LIGHT["twin"]
    ]
    assert len(rings) == 1
    assert rings[0] == pytest.approx([math.log10(at["fmr"]), 1 - at["fnmr"]])


def test_bands_are_those_of_the_curves(realistic, drawn):
    bands = drawn["roc"].figure.axes[0].collections
    assert len(bands) == 3
    curve = realistic.curves["twin"]
    twin = next(band for band in bands if matplotlib.colors.to_hex(band.get_facecolor()[0]) == LIGHT["twin"])
    corners = twin.get_paths()[0].vertices
    counts = realistic.figures["twin"]
    told = 0
    for fmr, low, high in list(zip(curve.band_fmr, curve.fnmr_low, curve.fnmr_high, strict=True)):
        fnmr = curve.fnmr[np.searchsorted(curve.fmr, fmr * (1 + 1e-9), side="right") - 1]
        at = corners[np.isclose(corners[:, 0], math.log10(fmr)), 1]
        if fmr * counts["num_impostors"] < 29 or fnmr * counts["num_genuine"] < 29:
            assert at.size == 0
        elif fmr * counts["num_impostors"] > 31 and fnmr * counts["num_genuine"] > 31:
            told += 1
            assert at.min() == pytest.approx(1 - high)
            assert at.max() == pytest.approx(1 - low)
    assert 5 < told < curve.band_fmr.size


@pytest.mark.parametrize(
    ("num_impostors", "lowest"), [(60, 10**-2), (5, 10**-1), (4000, 10**-4), (10**9, 10**-6)]
)
def test_the_fmr_axis_begins_where_pairs_end(num_impostors, lowest):
    nothing = np.zeros(0)
    curve = Curve(
        np.array([0.0, 1 / num_impostors, 1.0]), np.array([1.0, 0.5, 0.0]), nothing, nothing, nothing
    )
    made = replace(
        synthetic.without_families(),
        curves={"all": curve},
        figures={"all": {"num_impostors": num_impostors, "eer": 0.3}},
    )
    with drawing("roc"):
        axes = curves.roc_figure(made).axes[0]
    assert axes.get_xlim()[0] == pytest.approx(math.log10(lowest), abs=0.51)
    assert axes.get_xlim()[0] <= max(math.log10(1 / num_impostors), -6) + 1e-6
    with drawing("det"):
        figure = curves.det_figure(made)
    assert clipped(figure) == []
    assert touching(figure) == []
    assert len(figure.axes[0].get_xticks()) >= 4


def test_all_is_not_drawn_over_the_only_other_curve():
    one = synthetic.evaluation(1, 6)
    with drawing("roc"):
        texts = [text.get_text() for text in curves.roc_figure(one).axes[0].texts]
    assert len(texts) == 1
    assert texts[0].startswith("twins")


def test_histograms_keep_every_pair_and_paint_the_wrong_side(realistic, drawn):
    threshold = realistic.figures["threshold"]
    for axes, kind in zip(drawn["histograms"].figure.axes, ("genuine", "twin", "unrelated"), strict=True):
        counts = realistic.histograms.counts[kind]
        whole, outline, wrong = axes.patches
        shares, edges, _ = whole.get_data()
        assert shares.sum() == pytest.approx(100)
        assert outline.get_data()[0].sum() == pytest.approx(100)
        assert len(shares) <= plots.MAX_BINS + 2
        middles = (realistic.histograms.edges[1:] + realistic.histograms.edges[:-1]) / 2
        assert f": {counts.sum():,} pairs" in axes.get_title(loc="left")
        mean = np.average(middles, weights=counts)
        assert np.average((edges[1:] + edges[:-1]) / 2, weights=shares) == pytest.approx(mean, abs=0.02)
        painted = wrong.get_data().edges
        assert (painted[-1] if kind == "genuine" else painted[0]) == pytest.approx(threshold)
        assert (
            (painted <= threshold + 1e-12).all()
            if kind == "genuine"
            else (painted >= threshold - 1e-12).all()
        )
    texts = [axes.get_title(loc="left") for axes in drawn["histograms"].figure.axes]
    rate = realistic.figures["twin"]["confusion"]["fmr"]
    assert f"{100 * rate:.2f}" in texts[1]
    assert "at or above" in texts[1]
    assert f"{100 * realistic.figures['twin']['confusion']['fnmr']:.2f}" in texts[0]
    assert "below" in texts[0]


def test_confusion_counts_the_rest_as_of_unknown_relation():
    def at(matches, non_matches):
        return {"confusion": {
            "num_true_matches": 8, "num_false_non_matches": 2, "num_false_matches": matches,
            "num_true_non_matches": non_matches,
        }}  # fmt: skip

    rows = list(plots.confusion_rows({"twin": at(3, 4), "unrelated": at(1, 20), "all": at(9, 30)}))
    assert rows == [("genuine", 8, 2), ("twin", 3, 4), ("unrelated", 1, 20), ("other", 5, 6)]
    assert list(plots.confusion_rows({"twin": at(3, 4), "unrelated": None, "all": at(3, 4)})) == rows[:2]
    assert list(plots.confusion_rows({})) == []


def test_errors_are_framed(drawn):
    axes = drawn["confusion"].figure.axes[0]
    framed = {(round(p.get_x() - 0.02), round(p.get_y() - 0.05)) for p in axes.patches if not p.get_fill()}
    assert framed == {(1, 0), (0, 1), (0, 2)}  # (column, row): genuine missed, impostors matched


def test_reliability_shows_the_bins_that_hold_pairs(realistic, drawn):
    told = realistic.reliability
    known = np.isfinite(told.observed)
    (points,) = drawn["reliability"].figure.axes[0].collections
    assert np.allclose(points.get_offsets(), np.stack([told.predicted[known], told.observed[known]], axis=1))
    gap = replace(told, observed=np.where(np.arange(told.observed.size) == 2, np.nan, told.observed))
    with drawing("reliability"):
        figure = plots.reliability_figure(replace(realistic, reliability=gap))
    assert len(figure.axes[0].collections[0].get_offsets()) == known.sum() - 1


def test_families_are_bars_worst_first(realistic, drawn):
    for axes, rates in zip(
        drawn["families"].figure.axes,
        (
            [100 * f.num_twin_false_matches / f.num_twin for f in realistic.families],
            [100 * f.num_false_non_matches / f.num_genuine for f in realistic.families],
        ),
        strict=True,
    ):
        assert [bar.get_height() for bar in axes.patches] == pytest.approx(sorted(rates, reverse=True))


def test_twins_are_joined_and_the_worst_named(realistic, drawn):
    axes = drawn["embedding"].figure.axes[0]
    joining = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert len(joining) == 28
    dots = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in dots) == 28 * 2 * 12
    worst = sorted(realistic.families, key=lambda f: (-f.num_twin_false_matches / f.num_twin, f.family))[:4]
    assert {text.get_text() for text in axes.texts} == {family.family for family in worst}


@pytest.mark.parametrize("form", ["png", "pdf", "svg"])
def test_the_same_plot_is_the_same_bytes(realistic, form):
    def once():
        with drawing("roc"):
            return render(curves.roc_figure(realistic), "roc", form)

    one = once()
    assert one == once()
    assert (
        one[: {"png": 8, "pdf": 5, "svg": 5}[form]]
        == {"png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-", "svg": b"<?xml"}[form]
    )


def test_settings_of_the_reader_neither_matter_nor_change(realistic):
    with drawing("confusion"):
        usual = render(plots.confusion_figure(realistic), "confusion", "svg")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        with drawing("confusion"):
            figure = plots.confusion_figure(realistic)
        assert render(figure, "confusion", "svg") == usual
        assert dict(matplotlib.rcParams) == before


def test_pyplot_stays_out():
    code = (
        "import sys\n"
        "import twin_dcal.report.html\n"
        "from matplotlib.figure import Figure\n"
        "from twin_dcal.report.rendering import FORMATS, render\n"
        "from twin_dcal.report.theme import drawing\n"
        "with drawing('plot'):\n"
        "    figure = Figure()\n"
        "    figure.subplots().plot([1, 2])\n"
        "for form in FORMATS: render(figure, 'plot', form)\n"
        "assert not {'matplotlib.pyplot', 'torch', 'sklearn'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("$x^2$", "$x^2$"),
        ("<b>&\"'</b>", "&lt;b&gt;&amp;\"'&lt;/b&gt;"),
        ("#ffffff", "#ffffff"),
        ('1.2345 x="a"', '1.2345 x="a"'),
        ("a\u202eb\x00c\n", "a\ufffdb\ufffdc\ufffd"),
        ("王小明", "王小明"),
    ],
)
def test_names_are_drawn_as_they_are_not_as_formulas_markup_or_colours(small, name, text):
    family = replace(small.families[0], family=name, num_twin_false_matches=3)
    made = replace(small, families=[family])
    with drawing("families"):
        figure = plots.family_figure(made)
    page = inline(render(figure, "families", "svg").decode(), "")
    assert f">worst of 1 family: {text} 3/{family.num_twin}<" in page
    points = replace(made.points, people=[name] * 24, families=[name] * 24)
    with drawing("embedding"):
        figure = projection.embedding_figure(made, projection.project(points, 0))
    assert f">{text}<" in inline(render(figure, "embedding", "svg").decode(), "")


def test_descriptions_are_escaped():
    svg = '<svg viewBox="0 0 1 1"><g/></svg>'
    assert 'aria-label="&quot;&gt;&lt;script&gt;&amp;"' in inline(svg, '"><script>&')


def test_compact_changes_tags_alone():
    text = (
        '<g id="unused"><text id="used" x="1.23456">1.23456 id="unused"</text><use xlink:href="#used"/></g>'
    )
    short = '<g><text id="used" x="1.23">1.23456 id="unused"</text><use xlink:href="#used"/></g>'
    assert compact(text) == short
