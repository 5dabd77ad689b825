"""Combinations of branches as a user names them."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from twin_dcal.config import Branch
from twin_dcal.errors import ConfigError

BRANCHES: tuple[Branch, ...] = get_args(Branch)
ALL = "all"


@dataclass(frozen=True)
class Variant:
    """A combination of branches, in the order of the schema whatever order it was named in."""

    branches: tuple[Branch, ...]

    @property
    def name(self) -> str:
        """`sa+glca`; also the name of its folder."""
        return "+".join(self.branches)


def read_variants(names: Sequence[str]) -> tuple[Variant, ...]:
    """`sa sa+glca all` → combinations, in that order. ConfigError for unknown, incomplete and repeated ones."""
    variants: list[Variant] = []
    for name in names:
        variant = _read_variant(name)
        if variant in variants:
            raise ConfigError(
                f"--branches {' '.join(names)}: '{name}' is {variant.name}, which is named already; keep one"
            )
        variants.append(variant)
    return tuple(variants)


def _read_variant(name: str) -> Variant:
    parts = list(BRANCHES) if name == ALL else name.split("+")
    for part in parts:
        if part not in BRANCHES:
            near = difflib.get_close_matches(part, [*BRANCHES, ALL], 1)
            meant = f"; did you mean '{near[0]}'?" if near and near[0] != part else "."
            raise ConfigError(
                f"--branches {name}: no branch '{part}'{meant} Write combinations of {', '.join(BRANCHES)} such as "
                f"sa+glca; {ALL} is {'+'.join(BRANCHES)}"
            )
        if parts.count(part) > 1:
            raise ConfigError(f"--branches {name}: '{part}' is named twice; name each branch once")
    if "sa" not in parts:
        raise ConfigError(
            f"--branches {name}: 'sa' is the backbone itself and in every combination; write sa+{name}"
        )
    return Variant(tuple(branch for branch in BRANCHES if branch in parts))
