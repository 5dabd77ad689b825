"""breakdown.py: every cell by loops over pairs, its interval by leaving out families in a loop, and what is hidden."""

from dataclasses import replace
from datetime import date
from itertools import combinations

import numpy as np
import pytest
from made_faces import all_listed, faces

from twin_dcal.evaluation.breakdown import _of_twins, breakdowns_of
from twin_dcal.evaluation.evaluate import Decision, EvaluationOptions, evaluate
from twin_dcal.evaluation.metadata import Metadata, read_metadata
from twin_dcal.evaluation.protocol import pair_source
from twin_dcal.evaluation.table import format_table
from twin_dcal.metrics.confidence import rate_interval
from twin_dcal.report.html import draw_plots, report_page

THRESHOLD = 0.6
BANDS = ((0, 12), (13, 17), (18, 29), (30, 44), (45, 59), (60, 200))


def facts(comparisons):
    """Made-up facts of each image: dictionaries by row, some of them with gaps."""
    rng = np.random.default_rng(5)
    of_person, rows = {}, []
    for number, person in enumerate(sorted(set(comparisons.people.tolist()))):
        family = number // 2
        of_person[person] = {
            "zygosity": "" if family == 13 else ("identical", "fraternal")[family % 2],
            "sex": ("f", "m")[family % 3 == 0] if family < 12 else ("f", "m")[number % 2],
            "group": "north" if family % 4 else "south",
            "age": "" if number == 0 else 10 + 3 * family,
        }
    for person in comparisons.people.tolist():
        rows.append({  # noqa: PERF401
            **of_person[person],
            "session": f"s{rng.integers(2)}",
            "date": date(2020, 1, 1).fromordinal(737_425 + int(rng.choice([0, 5, 200, 900, 3000]))).isoformat(),
            "pose": ("frontal", "left")[int(rng.integers(2))],
            "quality": round(float(rng.uniform()), 3),
        })  # fmt: skip
    return rows


def table(comparisons, rows):
    """The facts as metadata.csv: of people on lines of people, of images on lines of images."""
    lines = ["person,image,zygosity,sex,group,age,session,date,pose,quality"]
    seen = set()
    for name, person, row in zip(comparisons.names, comparisons.people.tolist(), rows, strict=True):
        if person not in seen:
            seen.add(person)
            lines.append(f"{person},,{row['zygosity']},{row['sex']},{row['group']},{row['age']},,,,")
        lines.append(f",{name},,,,,{row['session']},{row['date']},{row['pose']},{row['quality']}")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    comparisons, vectors = faces(16, images_each=4)
    rows = facts(comparisons)
    path = tmp_path_factory.mktemp("data") / "metadata.csv"
    path.write_text(table(comparisons, rows))
    metadata = read_metadata(path, comparisons)
    found = evaluate(
        pair_source(comparisons, vectors),
        comparisons,
        Decision(THRESHOLD, "x"),
        EvaluationOptions(),
        None,
        None,
        metadata,
    )
    return comparisons, vectors, rows, found


def band(age):
    low, high = next((low, high) for low, high in BANDS if low <= age <= high)
    return f"{low} to {high}" if low < 60 else "60 and older"


def same(key, name=str):
    def cell(one, other):
        if one[key] == "" or other[key] == "":
            return None
        a, b = name(one[key]), name(other[key])
        return a if a == b else "different"

    return cell


def by_zygosity(one, other):
    return one["zygosity"] or other["zygosity"] or None


def by_lapse(one, other):
    days = abs((date.fromisoformat(one["date"]) - date.fromisoformat(other["date"])).days)
    limits = [(0, "the same day"), (31, "up to a month"), (366, "up to a year"), (1827, "1 to 5 years")]
    return next((name for limit, name in limits if days <= limit), "more than 5 years")


def oracle_cells(rows):
    low, high = np.quantile([row["quality"] for row in rows], [1 / 3, 2 / 3])

    def by_quality(one, other):
        worse = min(one["quality"], other["quality"])
        return "lowest third" if worse <= low else "middle third" if worse <= high else "highest third"

    def by_session(one, other):
        return "same session" if one["session"] == other["session"] else "different sessions"

    return {"zygosity": by_zygosity, "sex": same("sex"), "group": same("group"), "age": same("age", band),
            "session": by_session, "time between": by_lapse, "pose": same("pose"),
            "lower quality": by_quality}  # fmt: skip


def test_every_cell_is_that_of_loops(made):
    comparisons, vectors, rows, found = made
    listed, people, families = (
        all_listed(comparisons, vectors),
        comparisons.people.tolist(),
        comparisons.families.tolist(),
    )
    cells_of = oracle_cells(rows)
    told = found.figures["breakdowns"]
    assert [(each["by"], each["kind"]) for each in told[:2]] == [
        ("zygosity", "twin"),
        ("zygosity", "genuine"),
    ]
    assert {each["by"] for each in told} == set(cells_of)
    for each in told:
        pairs, unknown = {}, 0
        for one, other, score, kind in listed:
            if kind != each["kind"]:
                continue
            cell = cells_of[each["by"]](rows[one], rows[other])
            unknown += cell is None
            if cell is not None:
                wrong = (score < THRESHOLD) == (kind == "genuine")
                pairs.setdefault(cell, []).append((one, other, wrong))
        large = {
            cell: these for cell, these in pairs.items()
            if len(these) >= 100 and len({people[row] for pair in these for row in pair[:2]}) >= 10
        }  # fmt: skip
        assert [cell["cell"] for cell in each["cells"]] == sorted(
            large, key=[cell["cell"] for cell in each["cells"]].index
        )
        assert each["num_hidden_cells"] == len(pairs) - len(large)
        assert each["num_hidden_pairs"] == sum(map(len, pairs.values())) - sum(map(len, large.values()))
        assert each["num_unknown_pairs"] == unknown
        assert each["rate"] == ("fnmr" if each["kind"] == "genuine" else "fmr")
        for cell in each["cells"]:
            check_cell(cell, large[cell["cell"]], people, families)


def check_cell(cell, pairs, people, families):
    wrong = [pair[2] for pair in pairs]
    assert (cell["num_pairs"], cell["num_errors"]) == (len(pairs), sum(wrong))
    assert cell["value"] == pytest.approx(sum(wrong) / len(wrong))
    assert cell["num_people"] == len({people[row] for pair in pairs for row in pair[:2]})
    assert cell["num_people_with_errors"] == len(
        {people[row] for pair in pairs if pair[2] for row in pair[:2]}
    )
    touched = sorted({families[row] for pair in pairs for row in pair[:2]})
    assert cell["num_families"] == len(touched)
    without = []
    for family in touched:
        left = [pair[2] for pair in pairs if family not in (families[pair[0]], families[pair[1]])]
        without.append(sum(left) / len(left) if left else np.nan)
    if len(touched) < 5:
        assert cell["interval"] is None
        return
    ends = rate_interval(
        cell["value"], np.array(without), num_units=len(touched), num_trials=len(touched), level=0.95
    )
    assert cell["interval"] == pytest.approx([ends.low, ends.high])


def test_cells_together_are_all_pairs(made):
    _, _, _, found = made
    for each in found.figures["breakdowns"]:
        section = found.figures["unrelated" if each["kind"] == "unrelated" else "twin"]
        total = section["num_genuine"] if each["kind"] == "genuine" else section["num_impostors"]
        shown = sum(cell["num_pairs"] for cell in each["cells"])
        assert shown + each["num_hidden_pairs"] + each["num_unknown_pairs"] == total


def test_twins_said_to_be_both_are_unknown():
    codes = np.array([0, 1, -1, 0])
    cell_of = _of_twins(codes)
    pairs = np.array(list(combinations(range(4), 2)))
    assert cell_of(pairs[:, 0], pairs[:, 1]).tolist() == [-1, 0, 0, 1, -1, 0]


def test_page_and_table_show_what_is_large_enough_and_count_the_rest(made):
    _, _, _, found = made
    plots = draw_plots(found)
    assert "breakdowns" in [plot.name for plot in plots]
    page = " ".join(report_page(found, plots).split())
    text = " ".join(format_table(found.figures).split())
    first = found.figures["breakdowns"][0]
    assert [cell["cell"] for cell in first["cells"]] == ["fraternal", "identical"]
    assert "FMR of twin pairs by zygosity" in page
    assert f"Not known of {first['num_unknown_pairs']} pairs." in page
    assert "zygosity FMR % of twin pairs" in text
    for each in found.figures["breakdowns"]:
        if each["num_hidden_cells"] > 1:
            words = f"Not shown: {each['num_hidden_cells']} cells of fewer than 10 people or 100 pairs"
            assert words in page
            assert words in text
    assert found.figures["metadata"]["columns"] == [
        "zygosity", "sex", "group", "session", "pose", "age", "date", "quality"
    ]  # fmt: skip
    assert max(map(len, format_table(found.figures).splitlines())) <= 100


def test_a_column_of_many_values_tells_only_whether_they_are_the_same():
    values = np.array([f"{angle} degrees" for angle in range(40)] + ["0 degrees", ""])
    metadata = Metadata("m.csv", {"pose": values}, {}, 41)
    by_pose = breakdowns_of(metadata)
    assert [list(each.cells) for each in by_pose] == [["the same", "different"]] * 3
    assert by_pose[0].cell_of(np.array([0, 0, 0]), np.array([40, 1, 41])).tolist() == [0, 1, -1]
    few = breakdowns_of(replace(metadata, texts={"pose": values[:3]}))
    assert list(few[0].cells) == ["0 degrees", "1 degrees", "2 degrees", "different"]
