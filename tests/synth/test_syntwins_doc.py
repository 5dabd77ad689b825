"""docs/syntwins.md says what the code does: its table of difficulties, its example, its files and fields."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twin_dcal.synth.camera import FRAME_HALF
from twin_dcal.synth.generate import Settings, generate
from twin_dcal.synth.identity import DIFFICULTIES, OUTER, Geometry

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "syntwins.md").read_text()
PIXEL = 2 * FRAME_HALF / 112


def span(low_high, scale=1.0, digits=0):
    return "–".join(f"{value * scale:.{digits}f}" for value in low_high)


def degrees(level):
    return ", ".join(f"{np.degrees(value):.0f}" for value in (level.yaw, level.pitch, level.roll))


ROWS = {
    "own deviation, of the spread between strangers": lambda level: f"{100 * level.deviation:.0f} %",
    "own marks": lambda level: span(level.num_own_marks),
    "marks shared with the twin": lambda level: span(level.num_shared_marks),
    "radius of a mark, pixels at 112": lambda level: span(level.mark_radius, 1 / PIXEL, 1),
    "light lost at its centre": lambda level: f"{span(level.mark_contrast, 100)} %",
    "yaw, pitch, roll: standard deviation, degrees": degrees,
    "crop off by, pixels at 112": lambda level: f"{level.misalignment / PIXEL:.1f}",
    "directed light, its variation": lambda level: f"{level.light:.1f}",
    "expression": lambda level: f"{level.expression:.1f}",
    "noise up to, of 255 levels": lambda level: f"{255 * level.noise:.0f}",
    "blur up to, pixels at 112": lambda level: f"{level.blur:.1f}",
    "JPEG quality": lambda level: span(level.quality),
    "photos with glasses": lambda level: f"{100 * level.glasses:.0f} %",
}


@pytest.mark.parametrize("name", ROWS)
def test_the_table_of_difficulties_is_that_of_the_code(name):
    cells = [name, *(ROWS[name](level) for level in DIFFICULTIES.values())]
    assert f"| {' | '.join(cells)} |" in TEXT


def test_counts_of_traits_and_families_are_those_of_the_code():
    assert f"{len(Geometry._fields)} traits of geometry" in TEXT
    assert f"deviation of the {len(Geometry._fields) - len(OUTER)} other traits" in TEXT
    assert f"{Settings.triplet_share:.0%} of families are triplets".replace("%", " %", 1) in TEXT
    assert f"{Settings.single_share:.0%} single people".replace("%", " %") in TEXT


def test_the_example_runs_and_every_file_is_described(tmp_path, capsys):
    settings = Settings(families=3, images=2, image_size=48, seed=6)
    generate(tmp_path / "data" / "syntwins", settings)
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(
        compile(block.replace("data/syntwins", str(tmp_path / "data" / "syntwins")), "syntwins.md", "exec"),
        {},
    )
    assert re.fullmatch(
        r"train/00000a/00000a_000.jpg \d+% of the pixels show a difference, at most \d+ of 255\n",
        capsys.readouterr().out,
    )
    for path in (tmp_path / "data" / "syntwins").iterdir():
        assert path.name in TEXT
    with (tmp_path / "data" / "syntwins" / "meta.jsonl").open() as lines:
        for field in json.loads(next(lines)):
            assert f"`{field}`" in TEXT


@pytest.mark.parametrize("name", DIFFICULTIES)
def test_contact_sheets_are_there_and_small(name):
    path = ROOT / "docs" / "images" / f"syntwins_{name}.jpg"
    assert f"images/{path.name}" in TEXT
    assert path.stat().st_size <= 250_000
    with Image.open(path) as image:
        assert image.width == 10 * 112
