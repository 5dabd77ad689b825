"""A figure as files, and as an SVG that can stand inside a page."""

import re
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO, StringIO

from matplotlib.figure import Figure

from .theme import LIGHT, drawing

FORMATS = ("png", "pdf", "svg")
PNG_DPI = 250

# Nothing that changes from run to run: no dates.
_METADATA: Mapping[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}
_COLOUR_NAMES = {value: name for name, value in LIGHT.items()}


def render(figure: Figure, name: str, form: str) -> bytes:
    """The bytes of a "png", "pdf" or "svg" file; the same bytes for the same figure."""
    with drawing(name), warnings.catch_warnings():
        # Ids in scripts that the plot's font lacks show as boxes in PNG and PDF; the page uses the reader's fonts.
        warnings.filterwarnings("ignore", message="(?s).*(Glyph|glyph).*missing")
        if form == "svg":
            text = StringIO()
            figure.savefig(text, format="svg", metadata=_METADATA["svg"])
            return compact(text.getvalue()).encode()
        data = BytesIO()
        figure.savefig(data, format=form, dpi=PNG_DPI, metadata=_METADATA[form])
        return data.getvalue()


def compact(svg: str) -> str:
    """The same picture in fewer bytes: coordinates to a hundredth of a point, no metadata, no unused ids."""
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", svg))

    def shorten(tag: str) -> str:
        tag = re.sub(r"-?\d+\.\d{3,}", lambda found: _short(found[0]), tag)
        tag = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", tag)
        return re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)

    return re.sub(r">\s+<", "><", _in_tags(shorten, svg))


def inline(svg: str, label: str) -> str:
    """An SVG file as an element of a page: colours become CSS variables, size follows the column.

    Args: svg: as `render` made it. label: what the picture shows, for those who do not see it; plain text.
    """
    body = svg[svg.index("<svg") :]
    opening, rest = body.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', opening)
    assert box is not None
    rest = re.sub(r"<style[^>]*>.*?</style>", "", rest, count=1, flags=re.DOTALL)

    def restyle(tag: str) -> str:
        return re.sub(r"#[0-9a-f]{6}\b", _variable, re.sub(r" font-family: [^;\"]*;", "", tag))

    rest = _in_tags(restyle, rest)
    return f'<svg class="plot" role="img" aria-label="{_attribute(label)}" viewBox="{box[1]}">{rest}'


def _in_tags(change: Callable[[str], str], svg: str) -> str:
    """Change what stands in tags and leave alone the text between them, which may be anybody's."""
    return re.sub(r"<[^>]*>", lambda found: change(found[0]), svg)


def _short(number: str) -> str:
    text = f"{float(number):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _variable(found: re.Match[str]) -> str:
    name = _COLOUR_NAMES.get(found[0])
    return found[0] if name is None else f"var(--{name})"


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
