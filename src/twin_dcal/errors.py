"""Errors a user can act on. Every message says what was wrong, what was given and what to do.

Commands print the message alone and exit with 2; anything else that escapes is a bug of ours (exit code 70).
"""

import re

from .names import printable

_VERBS = (
    "add ask call check choose correct delete draw enrol enroll evaluate export fit give go install keep leave look "
    "make mend move name open pass pip prepare put restore resume run save scale score see send set start store take "
    "train try unset use widen write"
)
_ADVICE = re.compile(rf"(?:; |\. )((?:{_VERBS.replace(' ', '|')})\b)", re.IGNORECASE)


class TwinDcalError(Exception):
    """Base of all errors whose cause is the input, not the code. Its text is one line that a terminal obeys in nothing,
    whatever names of files or people are in it; `args` has the message as it was given."""

    def __str__(self) -> str:
        return printable(super().__str__())

    @property
    def hint(self) -> str | None:
        """What to do next: the message's last clause ("; use …" or ". Use …") that begins with one of the verbs above,
        to the end. None for a message without one."""
        found = _ADVICE.split(str(self))
        return "".join(found[-2:]) if len(found) > 1 else None


class ConfigError(TwinDcalError):
    """A configuration file, preset or command-line value that cannot be used."""


class ManifestError(TwinDcalError):
    """A data set description (folders, JSON files, pair lists) that cannot be used."""


class ImageError(TwinDcalError):
    """An image file that cannot be read."""


class CostlyImageError(ImageError):
    """An image file that would keep its decoder for long, and so is not decoded."""


class ModelError(TwinDcalError):
    """A backbone, weights file or checkpoint that cannot be used."""


class MetricError(TwinDcalError):
    """Scores from which the asked figure cannot be computed (empty, one class, NaN)."""
