"""The documentation site: reference pages say everything that the code has, and a fault of a link is seen."""

import re
from pathlib import Path

import pytest
import site_check

from twin_dcal.config import TwinVerificationConfig, dotted_keys

pages = pytest.importorskip("site_pages")
ROOT = Path(__file__).resolve().parents[2]


def rows_of(page):
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in page.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in cells]


def test_every_key_has_type_default_and_effect():
    rows = {row[0]: row[1:] for row in rows_of(pages.configuration_page()) if len(row) == 4}
    for key in dotted_keys():
        kind, default, effect = rows[f"<span id='{key}'>`{key}`</span>"]
        assert kind
        assert default
        assert len(effect) > 10, key


def test_types_and_ranges_are_in_words():
    section = TwinVerificationConfig.model_fields["training"].annotation
    fields = section.model_fields
    told = {name: pages.type_of(field.annotation, field.metadata) for name, field in fields.items()}
    assert told["batch_size"] == "whole number, ≥ 2"
    assert told["clip_norm"] == "number or `null`, > 0"
    assert told["optimizer"] == '`"adamw"`, `"sgd"`'


def test_a_key_without_a_text_is_refused(monkeypatch):
    source = "class LossConfig:\n    scale: float = 1.0\n    margin: float = 2.0\n    '''Told.'''\n"
    monkeypatch.setattr(pages.inspect, "getsource", lambda module: source)
    with pytest.raises(ValueError, match=r"LossConfig\.scale"):
        pages.effects_of("LossConfig")


def test_every_option_of_every_command_is_listed():
    page = pages.commands_page()
    for parser in pages.parsers():
        assert f"## {parser.prog}\n" in page
        own = page.partition(f"## {parser.prog}\n")[2].partition("\n## ")[0]
        for action in parser._actions:
            names = [name for name in action.option_strings if "-" not in name[2:]]
            if action.dest not in ("help", "version"):
                assert action.help == "==SUPPRESS==" or all(
                    f"`{name}" in own or f", {name}" in own for name in names
                ), names


def test_links_out_of_the_docs_folder_lead_to_files_that_exist():
    for page in (ROOT / "docs").rglob("*.md"):
        for target, _ in pages._LINK.findall(page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page.name, target)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<a href='other.html#here'>", ""),
        ("<a href='other.html#gone'>", "page.html: no place other.html#gone"),
        ("<a href='gone.html'>", "page.html: no file gone.html"),
        ("<a href='https://example.org'>", ""),
        ("<script src='https://example.org/x.js'></script>", "page.html: loads https://example.org/x.js"),
        ("<link rel='stylesheet' href='//example.org/x.css'>", "page.html: loads //example.org/x.css"),
    ],
)
def test_the_check_of_a_built_site_sees_faults(tmp_path, body, fault):
    (tmp_path / "page.html").write_text(body)
    (tmp_path / "other.html").write_text("<p id='here'>")
    assert site_check.faults(tmp_path) == ([fault] if fault else [])
