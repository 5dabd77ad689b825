"""Counted things in a sentence: one has a singular."""


def plural(value: int, noun: str, several: str | None = None) -> str:
    """1 → "1 family", 2 → "2 families", 1804 → "1,804 families".

    Args: several: where it is not the noun with an s; both may be longer phrases, such as "image is", "images are".
    """
    return f"{value:,} {noun if value == 1 else several or noun + 's'}"
