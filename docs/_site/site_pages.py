"""Pages that MkDocs builds from the code: every command, every configuration key, the Python names.

MkDocs calls the functions `on_…` (mkdocs.yml, `hooks`). What they write is never stored beside the source.
"""

import argparse
import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import twin_dcal
from twin_dcal import config_sections as schema
from twin_dcal.cli.common import Parser
from twin_dcal.cli.dcal import COMMANDS
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}
"""Files beside docs/ that are pages of the site, by their place in it."""
ASSETS = ("site.css", "worker_on_disk.js")
_LINK = re.compile(r"\]\((\.\./[^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the files beside docs/ that pages link to."""
    texts = {
        "reference/commands.md": commands_page(),
        "reference/configuration.md": configuration_page(),
        "reference/python.md": python_page(),
    }
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        texts[PAGES[name]] = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    for place, text in texts.items():
        files.append(File.generated(config, place, content=text))
    for name in ASSETS:
        content = (ROOT / "docs/_site" / name).read_bytes()
        files.append(File.generated(config, f"assets/{name}", content=content))
    linked = {
        name
        for page in (ROOT / "docs").rglob("*.md")
        for target, _ in _LINK.findall(page.read_text(encoding="utf-8"))
        if (name := _outside(page.parent, target))
    }
    for name in sorted(linked - PAGES.keys()):
        content = (ROOT / name).read_bytes()
        files.append(File.generated(config, f"source/{name}", content=content))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """The plugin `offline` would load this script from a server, for searching from a disk."""
    own = "../" * page.file.src_uri.count("/") + "assets/worker_on_disk.js"
    return output.replace("https://unpkg.com/iframe-worker/shim", own)


def _outside(folder: Path, target: str) -> str | None:
    """The place below the root of a file that a link of a page in `folder` leads to; None if it is one of docs/."""
    found = (folder / target).resolve()
    return None if found.is_relative_to(ROOT / "docs") else found.relative_to(ROOT).as_posix()


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that leave docs/ lead to the same file within the site."""
    folder, up = (ROOT / "docs" / page.file.src_uri).parent, "../" * page.file.src_uri.count("/")

    def within(link: re.Match[str]) -> str:
        name = _outside(folder, link[1])
        return f"]({up}{PAGES.get(name, f'source/{name}')}{link[2] or ''})" if name else link[0]

    return _LINK.sub(within, markdown)


def commands_page() -> str:
    """Every command with its options as their parsers have them."""
    parts = [
        "# Commands\n\nWritten from the commands themselves. Each is called `dcal-train` or `dcal train`, whichever "
        "you like. Options may be written with dashes or underscores. How a command ends is under "
        "[exit codes](../commands.md)."
    ]
    for parser in parsers():
        parts.append(f"## {parser.prog}\n\n{parser.description}")
        told = (parser.epilog or "").partition("examples:")[0]
        parts += [_text(told)] if told else []
        parts.append("```sh\n" + "\n".join(parser.examples) + "\n```")
        for group in parser._action_groups:
            rows = [row for action in group._group_actions if (row := _option_row(action))]
            if rows:
                title = "" if group.title in ("options", "positional arguments") else f"**{group.title}**\n\n"
                parts.append(f"{title}| option | what it does | default |\n|---|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def parsers() -> Iterator[Parser]:
    """The parsers of all commands, in the order of `dcal --help`."""
    for name in COMMANDS:
        yield import_module(f"twin_dcal.cli.{name}").parser()


def _option_row(action: argparse.Action) -> str | None:
    if isinstance(action, argparse._HelpAction | argparse._VersionAction) or action.help == argparse.SUPPRESS:
        return None
    names = [name for name in action.option_strings if "-" not in name.lstrip("-")] or [str(action.metavar)]
    value = ""
    if action.option_strings and action.nargs != 0:
        values = action.choices or (
            action.metavar if isinstance(action.metavar, tuple) else [action.metavar or action.dest.upper()]
        )
        value = (" " if isinstance(action.metavar, tuple) else r"\|").join(map(str, values))
        value = f" {value}" + (" …" if action.nargs == "+" else "")
    default = action.default
    shown = "" if default in (None, False, argparse.SUPPRESS) else _value(default)
    shown = "required" if action.required and action.option_strings else shown
    return f"| `{', '.join(names)}{value}` | {_text(action.help or '')} | {shown} |"


def _text(text: str) -> str:
    """Help as Markdown: escapes what a table or HTML would take for its own, and `%` as argparse has it."""
    return re.sub(r"([|<>*_\[\]])", r"\\\1", text.replace("%%", "%"))


def _linked(text: str) -> str:
    """`_text` with pages that it names as links."""
    parts = re.split(r"docs/(\w+)\.md", text)
    return "".join(
        f"[{part.replace('_', ' ')}](../{part}.md)" if at % 2 else _text(part)
        for at, part in enumerate(parts)
    )


def configuration_page() -> str:
    """Every key: type and range, default, effect, as the schema has them; and what presets change."""
    parts = [
        "# Configuration\n\nEvery key of a configuration file, written from its schema. A key is given in JSON, "
        '`{"training": {"batch_size": 16}}`, or on the command line, `--training.batch_size 16`. Unknown keys and '
        "values out of range are refused, with the nearest right name."
    ]
    for section, field in TwinVerificationConfig.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type)
        doc = inspect.cleandoc(kind.__doc__ or "") if "__doc__" in vars(kind) and kind.__doc__ else ""
        lines = [f"## {section}", doc, "", "| key | type and range | default | effect |", "|---|---|---|---|"]
        effects = effects_of(kind.__name__)
        for name, key in kind.model_fields.items():
            lines.append(
                f"| <span id='{section}.{name}'>`{section}.{name}`</span> | {type_of(key.annotation, key.metadata)} "
                f"| {_value(key.default)} | {_linked(effects[name])} |"
            )
        parts.append("\n".join(lines))
    parts.append("## Presets\n\nWhat each changes of the defaults above.")
    for name, values in PRESETS.items():
        rows = [
            f"| `{section}.{key}` | {_value(value)} |"
            for section, keys in values.items()
            for key, value in keys.items()
        ]
        parts.append(f"### {name}\n\n| key | value |\n|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def effects_of(class_name: str) -> Mapping[str, str]:
    """The text below each field of a section of the configuration. ValueError for a field without one."""
    tree = ast.parse(inspect.getsource(schema))
    [found] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name]
    effects = {}
    for field, text in pairwise(found.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match text:
                case ast.Expr(value=ast.Constant(value=str(told))):
                    effects[field.target.id] = " ".join(told.split())
                case _:
                    raise ValueError(f"{class_name}.{field.target.id}: no text below says what the key does")
    return effects


_PLAIN = {int: "whole number", float: "number", bool: "`true` or `false`", str: "text", type(None): "`null`"}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def type_of(annotation: Any, metadata: list[Any]) -> str:
    """A type and its bounds in words."""
    bounds = [
        f"{sign} {_number(bound)}"
        for item in metadata
        for name, sign in _BOUNDS.items()
        if (bound := getattr(item, name, None)) is not None
    ]
    return _kind(annotation) + (f", {', '.join(bounds)}" if bounds else "")


def _kind(annotation: Any) -> str:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if annotation == schema.ImageSize:
        side = f"{schema.MIN_IMAGE_SIZE} to {schema.MAX_IMAGE_SIZE}"
        return f"pixels a side, or [rows, columns], {side}"
    inner = get_args(annotation)
    if get_origin(annotation) is Literal:
        return ", ".join(_value(value) for value in inner)
    if get_origin(annotation) is tuple:
        return f"list of {_kind(inner[0])}"
    if inner:  # a union
        return " or ".join(_kind(kind) for kind in inner)
    raise TypeError(f"configuration_page: no words for {annotation}")


def _number(value: float) -> str:
    return "2⁶³" if value == 2**63 else f"{value:g}" if isinstance(value, float) else f"{value}"


def _value(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", r"\|")


def python_page() -> str:
    """Public names, in full by mkdocstrings."""
    parts = ["# Python\n\nWhat `import twin_dcal` offers. Everything else may change without notice."]
    parts += [f"::: twin_dcal{home}.{name}" for name, home in sorted(twin_dcal._HOME.items())]
    parts.append("::: twin_dcal.errors\n    options: {show_root_heading: true, show_root_full_path: true}")
    return "\n\n".join(parts) + "\n"
