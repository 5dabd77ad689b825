"""Errors a user can act on. Every message says what was wrong, what was given and what to do.

Commands print the message alone and exit with 2; anything else that escapes is a bug of ours (exit code 70).
"""

from .names import printable


class TwinDcalError(Exception):
    """Base of all errors whose cause is the input, not the code. Its text is one line that a terminal obeys in nothing,
    whatever names of files or people are in it; `args` has the message as it was given."""

    def __str__(self) -> str:
        return printable(super().__str__())


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
