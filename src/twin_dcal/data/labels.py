"""Labels of pairs as files write them. Nothing else is guessed at."""

_SAME = frozenset({"1", "1.0", "true", "genuine", "same", "yes", "ja"})
_DIFFERENT = frozenset({"0", "0.0", "-1", "-1.0", "false", "impostor", "different", "no", "nein"})

LABELS_READ = (
    "1, true, genuine, same or yes for the same person, 0, -1, false, impostor, different or no for another"
)


def parse_label(value: object) -> bool | None:
    """True for the same person, False for another, None for what says neither. Any case, blanks around."""
    if not isinstance(value, str | int | float):
        return None
    text = str(value).strip().lower()
    return True if text in _SAME else False if text in _DIFFERENT else None
