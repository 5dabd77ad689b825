"""Findings: what a reader left out or decided, one short line each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from twin_dcal.errors import ManifestError
from twin_dcal.plural import plural

_NUM_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One line for the user.

    leaves_out: whether data was left out. doubtful: whether it may make figures wrong. Either is an error when strict.
    """

    text: str
    leaves_out: bool = True
    doubtful: bool = False


def note(text: str) -> Finding:
    """A decision the user should know of that loses no data."""
    return Finding(text, leaves_out=False)


def doubt(text: str) -> Finding:
    """What may make figures wrong, though no data was left out."""
    return Finding(text, leaves_out=False, doubtful=True)


def first_few(offenders: Sequence[object]) -> str:
    """The first three, and how many more there are; of four, all."""
    more = len(offenders) - _NUM_SHOWN
    if more <= 1:
        return ", ".join(map(str, offenders))
    return f"{', '.join(map(str, offenders[:_NUM_SHOWN]))} and {more} more"


def left_out(one: str, several: str, reason: str, offenders: Sequence[object]) -> list[Finding]:
    """`[]` without offenders, else one finding: count, what, why and the first few offenders."""
    if not offenders:
        return []
    return [Finding(f"{plural(len(offenders), one, several)} left out, {reason}: {first_few(offenders)}")]


def texts(findings: Iterable[Finding]) -> tuple[str, ...]:
    return tuple(finding.text for finding in findings)


def refuse_if_strict(findings: Iterable[Finding], strict: bool, source: object) -> None:
    """ManifestError with every finding that leaves data out or makes figures doubtful, when `strict`."""
    losses = [finding.text for finding in findings if finding.leaves_out or finding.doubtful]
    if strict and losses:
        raise ManifestError(
            f"{source}: {'; '.join(losses)}. "
            "Mend the data set, or leave out --strict (data.strict) to go on without them."
        )
