"""Colours, names and drawing settings that plots and page share.

One colour per kind of pair everywhere, told apart by the common forms of colour blindness and, where lines
cross, by dashes too. Every colour a plot uses is one of `LIGHT`, so that the page can exchange it for a CSS
variable and follow the reader's light or dark setting.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

LIGHT: Mapping[str, str] = {
    "surface": "#ffffff",
    "ink": "#1b2330",
    "muted": "#586273",
    "grid": "#e4e8ed",
    "frame": "#98a2af",
    "genuine": "#00785a",
    "twin": "#bf4700",
    "unrelated": "#0063a6",
    "all": "#505b6b",
    "other": "#7c5530",
    "one": "#6a48b5",
    "two": "#8a6500",
}
DARK: Mapping[str, str] = {
    "surface": "#1a2028",
    "ink": "#e7ebf1",
    "muted": "#a6b0bd",
    "grid": "#2d3641",
    "frame": "#6d7887",
    "genuine": "#3fcfa4",
    "twin": "#ff9a5e",
    "unrelated": "#6cb9f8",
    "all": "#c2cad5",
    "other": "#d1a681",
    "one": "#bda5f6",
    "two": "#e3be57",
}
"""The page's second set, by the same names."""

DASHES = {"twin": "-", "unrelated": (0, (5, 1.6)), "all": (0, (1.2, 1.2))}
SECTION_NAMES = {"twin": "twins", "unrelated": "unrelated", "all": "all impostors"}
KIND_NAMES = {
    "genuine": "genuine",
    "twin": "twin impostors",
    "unrelated": "unrelated impostors",
    "other": "impostors, relation unknown",
}

_SETTINGS = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.color": LIGHT["ink"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.titlecolor": LIGHT["muted"],
    "axes.edgecolor": LIGHT["frame"],
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": LIGHT["frame"],
    "ytick.color": LIGHT["frame"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.7,
    "lines.solid_capstyle": "butt",
    "lines.dash_capstyle": "butt",
    "figure.facecolor": LIGHT["surface"],
    "savefig.facecolor": "auto",
    "svg.fonttype": "none",  # text stays text: small, searchable, read aloud
    "pdf.fonttype": 42,  # TrueType; publishers refuse Type 3
}


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Our settings, whatever the reader's matplotlibrc says, while the block runs; restored afterwards.

    Args: name: of the plot; it salts the identifiers in the SVG, so that plots on one page have their own.
    """
    from matplotlib.style import context  # here: a decision's picture needs the colours alone

    with context(["default", _SETTINGS, {"svg.hashsalt": f"twin_dcal.{name}"}]):
        yield


def css_variables(colours: Mapping[str, str]) -> str:
    """`--name: #rrggbb;` for each colour, for a style sheet."""
    return " ".join(f"--{name}: {value};" for name, value in colours.items())


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The plots' own font, which matplotlib brings along; it is not imported for that."""
    package = find_spec("matplotlib")
    assert package is not None
    assert package.submodule_search_locations is not None
    fonts = Path(package.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(fonts / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)
