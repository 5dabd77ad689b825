"""What an ablation compares: combinations of branches, or any changes of a configuration, as a user names them."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from twin_dcal.config import Branch
from twin_dcal.data.jsonfile import read_json
from twin_dcal.errors import ConfigError, ManifestError

BRANCHES: tuple[Branch, ...] = get_args(Branch)
OWN_KEYS = {
    "runtime.output_dir": "--output_dir",
    "runtime.seed": "--seeds",
    "data.split_file": "--data.split_file for all variants",
}
"""Keys that are set for every run, and what is used in their place."""
_FOLDER = re.compile(r"[^\W_][\w+.-]{0,99}|[_+-][\w+.-]{0,99}")
_FILES = (".json", ".md", ".tex", ".pdf", ".png", ".svg")
ALL = "all"


@dataclass(frozen=True)
class Variant:
    """A combination of branches, in the order of the schema whatever order it was named in, or named changes of keys.

    label: a name of its own; None takes the branches'. changes: dotted keys and their values, in pairs.
    """

    branches: tuple[Branch, ...] = ()
    label: str | None = None
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """`sa+glca`, or the label; also the name of its folder."""
        return self.label or "+".join(self.branches)

    def overrides(self) -> dict[str, Any]:
        """Dotted keys that make a configuration this variant."""
        return dict(self.changes) if self.label else {"model.branches": self.branches}


def read_variants_file(path: str | Path) -> tuple[Variant, ...]:
    """A JSON object of name to changes, ``{"untouched": {"training.num_epochs": 0}, …}``, in its order.

    ConfigError for a file that is none, and for names that make no folder.
    """
    try:
        named = read_json(Path(path))
    except ManifestError as error:
        raise ConfigError(f"--variants {path}: not a JSON file that can be read ({error})") from None
    if not isinstance(named, dict) or not named or not all(isinstance(each, dict) for each in named.values()):
        raise ConfigError(
            f'--variants {path}: write an object of names and changes, {{"sa": {{"model.branches": ["sa"]}}, …}}'
        )
    before: dict[str, str] = {}
    for name, changes in named.items():
        if not _FOLDER.fullmatch(name) or name.endswith(_FILES):
            raise ConfigError(
                f"--variants {path}: '{name[:60]}' is a folder's name too: use up to 100 letters, digits and + - _ . , "
                "with none of the endings of the tables and plots beside it"
            )
        if (other := before.setdefault(name.upper(), name)) != name:
            raise ConfigError(
                f"--variants {path}: '{other}' and '{name}' differ in capitals alone, which tables do not show"
            )
        for key, instead in OWN_KEYS.items():
            if key in changes:
                raise ConfigError(
                    f"--variants {path}: '{name}' sets {key}, which dcal-ablate sets; use {instead}"
                )
    return tuple(
        Variant(label=name, changes=tuple((key, _frozen(value)) for key, value in changes.items()))
        for name, changes in named.items()
    )


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


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
