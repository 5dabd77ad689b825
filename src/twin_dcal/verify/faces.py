"""Which of several faces, as a user types it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twin_dcal.errors import ConfigError

if TYPE_CHECKING:
    from twin_dcal.prepare.align import FaceChoice


def face_choices(words: Sequence[str], called: str) -> "tuple[FaceChoice, FaceChoice]":
    """`2`, `largest` or `1 2` as the choice for the first and for the second picture.

    Args: called: what was typed in front of it, for the message. ConfigError for what is no choice.
    """
    numbered = [text for text in words if text != "largest"]
    if not 1 <= len(words) <= 2 or not all(
        text.isascii() and text.isdigit() and int(text) for text in numbered
    ):
        raise ConfigError(
            f"{called} {' '.join(words)}: give largest, or a number from the left, for one or both pictures"
        )
    return _choice(words[0]), _choice(words[-1])


def _choice(text: str) -> "FaceChoice":
    return "largest" if text == "largest" else int(text)
