"""Figures and names as a reader sees them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin_dcal.report import content, theme, wording


def spaced(text):
    return text.replace(wording.NARROW_SPACE, " ")


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [
        (0.1234, 2, "12.34 %"),
        (0.0, 2, "0.00 %"),
        (1.0, 2, "100.00 %"),
        (0.95, 0, "95 %"),
        (0.0001, 2, "0.01 %"),
        (0.0000512, 2, "0.0051 %"),
        (0.000048, 1, "0.0048 %"),
        (3e-15, 2, "<0.0001 %"),
        (None, 2, "–"),
        (math.nan, 2, "–"),
    ],
)
def test_percent_keeps_few_apart_from_none(share, digits, text):
    assert spaced(wording.percent(share, digits)) == text


def test_intervals_and_signs():
    assert spaced(wording.percent_interval([0.1, 0.2])) == "10.00–20.00 %"
    assert wording.number_interval([0.5, 0.75], 2) == "0.50–0.75"
    assert wording.number_interval([-0.5, 0.25], 2) == "−0.50 – 0.25"
    assert wording.number(-1.5, 1) == "−1.5"


@pytest.mark.parametrize("missing", [None, [], [None, 0.2], [0.1, math.nan], [0.1], "ab"])
def test_an_interval_that_could_not_be_made_is_left_out(missing):
    assert wording.percent_interval(missing) == wording.number_interval(missing, 2) == ""


def test_rates_that_were_asked_for():
    assert [wording.rate_name(rate) for rate in (1.0, 0.1, 1e-4, 0.00025)] == ["1", "10⁻¹", "10⁻⁴", "0.00025"]


@given(st.text(max_size=30))
def test_shown_text_can_always_be_written(text):
    shown = wording.shown(text)
    assert len(shown) == len(text)
    shown.encode()
    assert not any(ord(sign) < 32 for sign in shown)


def test_direction_changes_are_shown_as_unknown_and_bytes_of_names_as_everywhere():
    assert wording.shown("a\u202eb\x00\n") == "a\ufffdb\ufffd\ufffd"
    assert wording.shown("J\udcfcrgen\ud800") == "J\\udcfcrgen\\ud800"
    assert wording.shown("Zoë 王 \u202f می\u200cخواهم") == "Zoë 王 \u202f می\u200cخواهم"


@given(st.text(max_size=40), st.integers(3, 20))
def test_shortened_keeps_both_ends(text, length):
    short = wording.shortened(text, length)
    assert len(short) <= max(length, 0)
    assert short == text or (short[0] == text[0] and short[-1] == text[-1] and "…" in short)


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_text_colours_reach_the_contrast_of_wcag_aa(colours):
    for name in set(colours) - {"surface", "grid", "frame"}:
        bright, dark = sorted((luminance(colours[name]), luminance(colours["surface"])), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, name


def test_both_themes_name_the_same_distinct_colours():
    assert theme.LIGHT.keys() == theme.DARK.keys()
    assert len(set(theme.LIGHT.values())) == len(theme.LIGHT)


def test_figures_with_their_intervals_and_remarks():
    def at(rate, tar, matches, misses, supported=True):
        return {
            "fmr_requested": rate, "tar": tar, "supported": supported,
            "num_false_matches": matches, "num_false_non_matches": misses,
        }  # fmt: skip

    section = {
        "num_genuine": 100,
        "num_impostors": 5000,
        "eer": 0.05,
        "intervals": {"eer": [0.04, 0.07], "tar_at_far_0.01": [0.5, 0.6]},
        "confusion": {"fmr": 0.25, "fnmr": 0.5},
        "tar_at_far": [at(0.01, 0.55, 50, 29), at(0.1, 0.75, 30, 45), at(0.0001, 0.0, 0, 9, supported=False)],
    }
    groups = dict(content.figure_rows({"twin": section, "unrelated": None, "all": section}))
    rows = {name: {row.name: row.cells for row in rows} for name, rows in groups.items()}
    eer = rows["Over all thresholds"]["EER"]
    assert [spaced(cell.value) for cell in eer] == ["5.00 %", "–", "5.00 %"]
    assert spaced(eer[0].interval) == "4.00–7.00 %"
    assert spaced(rows["At the decision threshold"]["FMR"][0].value) == "25.00 %"
    tar = rows["TAR (1 − FNMR) where FMR is at most"]
    assert list(tar) == ["10⁻¹", "10⁻²", "10⁻⁴"]
    assert (tar["10⁻¹"][0].remark, tar["10⁻²"][0].remark) == ("", "29 errors")
    assert spaced(tar["10⁻²"][0].interval) == "50.00–60.00 %"
    assert tar["10⁻⁴"][0] == content.Cell("–", "", "too few pairs")
    assert tar["10⁻¹"][1].value == "–"


def test_without_a_headline_the_rates_at_the_threshold_are_told():
    assert "25.00" in content.headline({"headline": None, "all": {"confusion": {"fmr": 0.25, "fnmr": 0.5}}})
    assert content.headline({}) == "There are no comparisons to report."
    assert [card.kind for card in content.cards({"all": {"eer": 0.1}})] == ["all", "all"]
    at_threshold = {"all": {"eer": 0.1, "confusion": {"fmr": 0.25, "fnmr": 0.5}}}
    assert [card.name for card in content.cards(at_threshold)[:2]] == [
        "FMR at the decision threshold", "FNMR at the decision threshold"
    ]  # fmt: skip


def test_families_and_people_come_worst_first(realistic):
    families = content.family_rows(realistic.families)
    rates = [float(row.twin.rate[:-2]) for row in families]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[-1]
    people = content.person_rows(realistic.people)
    animals = [row.animal for row in people]
    assert animals[: len([a for a in animals if a])] == sorted(a for a in animals if a)
    assert len(families) == 28
    assert len(people) == 56


def test_paths_break_behind_their_separators_and_are_escaped():
    from twin_dcal.report.html import breakable

    assert breakable("test/00002a/a_1.jpg") == "test/<wbr>00002a/<wbr>a_<wbr>1.jpg"
    assert breakable("<b>/&.jpg") == "&lt;b&gt;/<wbr>&amp;.jpg"
