"""Which of several faces, as a user types it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twin_dcal.config_text import whole_number
from twin_dcal.errors import ConfigError

if TYPE_CHECKING:
    from twin_dcal.inference.aligning import Faces
    from twin_dcal.prepare.align import FaceChoice


def face_choices(words: Sequence[str], called: str) -> "Faces":
    """`2`, `largest` or `1 2` as the choice for both pictures, or for each.

    Args: called: what was typed in front of it, for the message. ConfigError for what is no choice.
    """
    numbered = [text for text in words if text != "largest"]
    if not 1 <= len(words) <= 2 or not all(map(whole_number, numbered)):
        raise ConfigError(
            f"{called} {' '.join(words)}: give largest, or a number from the left, for one or both pictures"
        )
    chosen = [_choice(text) for text in words]
    return chosen[0] if len(words) == 1 or not numbered else (chosen[0], chosen[1])


def _choice(text: str) -> "FaceChoice":
    return "largest" if text == "largest" else int(text)
