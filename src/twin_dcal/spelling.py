"""Which name was meant: the nearest known one to a name that is unknown."""

import difflib
from collections.abc import Collection, Iterable, Mapping

_CUSTOMARY = {
    "lr": "learning_rate", "wd": "weight_decay", "bs": "batch_size", "epochs": "num_epochs", "workers": "num_workers",
    "threads": "num_threads", "grad_clip": "clip_norm", "max_norm": "clip_norm", "gpu": "device", "fp16": "amp",
    "input_size": "image_size", "resolution": "image_size", "weights": "pretrained", "arch": "backbone",
    "tracker": "backend",
}  # fmt: skip
"""What other programs call the last part of a name."""


def nearest(name: str, known: Iterable[str], shown: Mapping[str, str] | None = None) -> str:
    """Ask "; did you mean '…'?" for the known name that `name` most likely stands for; empty if none is near.

    Names may be dotted; the part after the last dot counts most. Near is, in this order: the same last part, what
    other programs call it (`lr` for learning_rate), a slip of the pen, one of its words (`warmup` for warmup_epochs).
    Args: shown: how a known name is written in the question, where that differs.
    """
    found = _nearest(name, list(known))
    return f"; did you mean '{(shown or {}).get(found, found)}'?" if found else ""


def _nearest(name: str, known: list[str]) -> str | None:
    section, _, tail = name.lower().rpartition(".")
    # A key's own section comes first: `training.lr` is not a key of another section.
    ordered = sorted(known, key=lambda key: key.rpartition(".")[0] != section)
    by_tail: dict[str, str] = {}
    for key in ordered:
        by_tail.setdefault(key.rpartition(".")[2], key)
    for meant in (tail, _CUSTOMARY.get(tail)):
        if meant in by_tail:
            return by_tail[meant]
    if close := difflib.get_close_matches(name, ordered, 1, cutoff=0.8):
        return close[0]
    if close := difflib.get_close_matches(tail, list(by_tail), 1, cutoff=0.7):
        return by_tail[close[0]]
    holding = [key for other, key in by_tail.items() if tail in other.split("_")]
    if holding:
        return holding[0]
    close = difflib.get_close_matches(name, ordered, 1) or difflib.get_close_matches(tail, list(by_tail), 1)
    return by_tail.get(close[0], close[0]) if close else None


def nearest_argument(name: str, options: Collection[str], keys: Iterable[str] = ()) -> str:
    """`nearest` of a command's options (`--batch_size`), by their names without dashes, and of keys."""
    written = {option.lstrip("-").replace("-", "_"): option for option in reversed(list(options))}
    return nearest(name, [*written, *keys], written)
