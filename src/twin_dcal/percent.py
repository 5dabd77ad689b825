"""Shares as people read them."""

import math


def percent(share: float) -> str:
    """A share as per cent with two digits: `100 %`, `37 %`, `0.82 %`, `0 %`; as many as it takes to be no whole."""
    value = 100 * share
    if not value:
        return "0 %"
    digits = max(1 - math.floor(math.log10(abs(value))), 0)
    while value < 100 and float(f"{value:.{digits}f}") >= 100:
        digits += 1
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"
