"""Figures and names as a reader sees them. A dash stands for what is not known."""

import math
from collections.abc import Sequence
from typing import Any
from unicodedata import category

from twin_dcal.names import written

DASH = "–"
NARROW_SPACE = "\u202f"
MINUS = "\u2212"
_LEAST_PERCENT = 1e-4  # one pair in a million
_UNFIT = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # part of words in several scripts
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(share: float | None, digits: int = 2) -> str:
    """0.1234 → "12.34 %"; shares too small for the digits keep two significant ones, so that few is not none."""
    if share is None or not math.isfinite(share):
        return DASH
    return f"{_percent_number(share, digits)}{NARROW_SPACE}%"


def percent_interval(interval: Sequence[float] | None, digits: int = 2) -> str:
    """(0.1, 0.2) → "10.00–20.00 %"; empty where there is none."""
    if not is_interval(interval):
        return ""
    assert interval is not None
    return f"{DASH.join(_percent_number(end, digits) for end in interval)}{NARROW_SPACE}%"


def number(value: float | None, digits: int) -> str:
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:.{digits}f}".replace("-", MINUS)


def number_interval(interval: Sequence[float] | None, digits: int) -> str:
    if not is_interval(interval):
        return ""
    assert interval is not None
    ends = [number(end, digits) for end in interval]
    return f" {DASH} ".join(ends) if any(MINUS in end for end in ends) else DASH.join(ends)


def is_interval(value: Any) -> bool:
    """Two finite ends. Intervals that could not be made come as null or with null ends."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) == 2
        and all(isinstance(end, int | float) and math.isfinite(end) for end in value)
    )


def count(value: int | None) -> str:
    return DASH if value is None else f"{value:,}"


def unbroken(text: str) -> str:
    """No line ends between a number and its per cent sign."""
    return text.replace(" %", f"{NARROW_SPACE}%")


def rate_name(rate: float) -> str:
    """A rate that was asked for: 0.001 → "10⁻³", 0.0025 → "0.0025"."""
    exponent = round(math.log10(rate)) if rate > 0 else 0
    if rate > 0 and math.isclose(rate, 10.0**exponent, rel_tol=1e-9):
        return "1" if exponent == 0 else f"10{str(exponent).translate(_SUPERSCRIPTS)}"
    return f"{rate:.2g}"


def shown(text: object) -> str:
    """Any text, fit to be read: no control or direction-changing characters, bytes as `names.written` has them."""
    return "".join(
        "\ufffd" if category(sign) in _UNFIT and sign not in _JOINERS else sign for sign in written(text)
    )


def shortened(text: str, length: int) -> str:
    """Cut in the middle, where identifiers differ least."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def _percent_number(share: float, digits: int) -> str:
    value = 100 * share
    if value == 0 or abs(value) >= 10**-digits or not math.isfinite(value):
        text = f"{value:.{digits}f}"
    elif abs(value) < _LEAST_PERCENT:
        text = f"<{_LEAST_PERCENT:.4f}"
    else:
        text = f"{value:.{max(digits, 1 - math.floor(math.log10(abs(value))))}f}"
    return text.replace("-", MINUS)
