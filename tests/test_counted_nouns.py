"""Counts in sentences: one image, two images."""

import ast
import re
from pathlib import Path

import pytest

import twin_dcal
from twin_dcal.plural import plural

SOURCE = Path(twin_dcal.__file__).parent
NOUNS = (
    "images pictures photos photographs crops faces people families persons pairs ids files folders features rows "
    "names vectors labels columns requests parts values errors batches views clusters neighbours scores tensors kinds "
    "epochs"
)
COUNTED = re.compile(rf" ([a-z-]+ )?({NOUNS.replace(' ', '|')})\b")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((1, "image"), "1 image"), ((0, "image"), "0 images"), ((1804, "pair"), "1,804 pairs"),
        ((1, "family", "families"), "1 family"), ((2, "family", "families"), "2 families"),
        ((1, "id fits", "ids fit"), "1 id fits"),
    ],
)  # fmt: skip
def test_one_has_a_singular(given, told):
    assert plural(*given) == told


def is_fixed(value):
    """Whether a number in a sentence is a limit that the program has, which is never one."""
    name = value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")
    return name.isupper()


def is_number(part):
    """Whether a part of a sentence may be a count: not text, not a figure with digits after the point."""
    if not isinstance(part, ast.FormattedValue) or is_fixed(part.value):
        return False
    form = "" if part.format_spec is None else ast.unparse(part.format_spec)
    called = getattr(getattr(part.value, "func", None), "id", "")
    return called in ("len", "int", "count") or "," in form or is_named_as_count(part.value)


def is_named_as_count(value):
    text = ast.unparse(value)
    return (
        re.search(r"(^|[.\[' ])(num_\w+|count|number|size|total)\W*$", text) is not None
        and "plural" not in text
    )


NEVER_ONE = {  # of these there are two or more where the sentence is said
    "ablation/tables.py": "families (", "evaluation/compare.py": "families (", "cli/lookalikes.py": "people, cosines",
    "data/samplers.py": "people x",
    "evaluation/protocol.py": "families: use", "lookalikes/matching.py": "people: above",
    "lookalikes/suggest.py": "people are mutual", "metrics/error_rates.py": "impostor pairs or more",
    "metrics/paired.py": "pairs). Put", "metrics/pairs.py": "second images. Give",
    "report/content.py": "unrelated pairs",
    "model_file/familiarity.py": "validation pictures;", "prepare/align.py": "faces",
    "prepare/photo.py": "faces in the",
    "prepare/grouping.py": "people, too many", "cli/synth.py": "edited people in",
}  # fmt: skip


FORMATTED = re.compile(rf"(%,?d|\{{\w*(:[,d]*)?\}})(?={COUNTED.pattern})")


def formatted(node):
    """The text before a noun in `"%d images" % n`, `logger.info("%d images", n)`, `"{} images".format(n)` and
    `str(n) + " images"`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and isinstance(node.right, ast.Constant):
        if getattr(getattr(node.left, "func", None), "id", "") == "str" and COUNTED.match(
            str(node.right.value)
        ):
            yield ast.unparse(node.left), node.right.value
        return
    given = [node.left] if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) else []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        given = [node.func.value] if node.func.attr == "format" else node.args[:1]
    for text in given:
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            for found in FORMATTED.finditer(text.value):
                yield found[0], text.value[found.end() :]


def sentences(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for before, after in formatted(node):
            yield f"{path.relative_to(SOURCE).as_posix()}:{node.lineno}: {before}{after[:30]}"
        if isinstance(node, ast.JoinedStr):
            for part, after in zip(node.values, node.values[1:], strict=False):
                if is_number(part) and isinstance(after, ast.Constant) and COUNTED.match(after.value):
                    name = path.relative_to(SOURCE).as_posix()
                    if not after.value.startswith(f" {NEVER_ONE.get(name, name)}"):
                        yield f"{name}:{node.lineno}: {ast.unparse(part)}{after.value[:30]}"


def test_no_sentence_counts_by_itself():
    found = [told for path in sorted(SOURCE.rglob("*.py")) for told in sentences(path)]
    assert found == []


def test_the_search_would_find_one(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    path = tmp_path / "made.py"
    path.write_text(
        'print(f"left out {len(x)} images", f"{n:,} genuine pairs", f"{MAX} images", f"{a.num_people} people")\n'
        'logger.info("found %d genuine pairs, %s images", n, told)\n'
        'print("%d files" % n, "of {:,} crops, {} of {}".format(n, m, k), str(n) + " ids", name + " ids")'
    )
    assert sorted(told.partition(": ")[2] for told in sentences(path)) == sorted([
        "{len(x)} images", "{n:,} genuine pairs", "{a.num_people} people", "%d genuine pairs, %s images",
        "{:,} crops, {} of {}", "%d files", "str(n) ids",
    ])  # fmt: skip
