"""What stands beside each plot: its name, how to read it, and what it shows in words for those who do not see it."""

from collections.abc import Mapping
from dataclasses import dataclass

from twin_dcal.evaluation.result import Evaluation
from twin_dcal.plural import plural

from .plots import confusion_rows
from .theme import KIND_NAMES, SECTION_NAMES
from .wording import count, number, percent


@dataclass(frozen=True)
class Caption:
    title: str
    reading: str
    alternative: str


_READINGS: Mapping[str, tuple[str, str]] = {
    "roc": (
        "ROC curve",
        "Up and to the left is better: the share of genuine pairs accepted, for every false match rate the "
        "threshold may allow. {bands}A thin line rests on fewer than 30 false matches; rings mark the decision "
        "threshold.",
    ),
    "det": (
        "DET curve",
        "Down and to the left is better: the two error rates against each other, on scales that make normally "
        "distributed scores a straight line. {bands}Dots on the diagonal are equal error rates, rings the decision "
        "threshold.",
    ),
    "histograms": (
        "Scores by kind of pair",
        "The further genuine pairs lie to the right of impostors, the better. Solid parts are wrong decisions: "
        "genuine pairs below the threshold, impostors at or above it. Each row has its own scale.",
    ),
    "confusion": (
        "Decisions at the threshold",
        "What was decided for each kind of pair, as a share of its row. Framed cells are errors.",
    ),
    "reliability": (
        "Reliability of the calibrated score",
        "On the diagonal, a probability of 0.8 is right four times in five; below it the score promises too much. "
        "Genuine pairs and {impostors} weigh the same. ECE is the mean distance from the diagonal, Brier the mean "
        "squared error.",
    ),
    "families": (
        "Errors by family",
        "A bar for each family, worst first, separately for the two kinds of error. A few high bars mean that "
        "some families cause most errors; the dashed line is the rate of all pairs together.",
    ),
    "breakdowns": (
        "Error rates by what is known of people and images",
        "At the decision threshold, on a logarithmic scale: a dot for each rate, a line for its {level} interval. "
        "No line: too few families for one. An arrow stands for a rate of 0.",
    ),
    "embedding": (
        "Embeddings",
        "Each dot is an image, near to those with similar embeddings; dots and triangles are the people of a family, "
        "lines join their middles. Twins whose clouds lie in each other are hard to tell apart. Named: families with "
        "the most twin false matches. {method}",
    ),
}
_METHODS = {
    "t-SNE": "t-SNE keeps neighbours together; distances between far groups mean nothing.",
    "PCA": "PCA shows the two directions in which embeddings vary most; what differs elsewhere is not seen.",
}


def caption(name: str, evaluation: Evaluation, *, level: str, method: str = "") -> Caption:
    """The caption of one plot. Args: level: of the intervals, such as "95 %"; method: of the projection."""
    title, reading = _READINGS[name]
    on = (evaluation.figures.get("calibration") or {}).get("on")
    reading = reading.format(
        bands=f"Bands are {level} intervals, where 30 errors of each kind stand behind them. "
        if level
        else "",
        method=_METHODS.get(method, ""),
        level=level or "95 %",
        impostors="twin impostors" if on == "twin" else "impostors",
    )
    return Caption(title, reading.strip(), f"{title}. {_in_words(name, evaluation, method)}".strip())


def _in_words(name: str, evaluation: Evaluation, method: str) -> str:
    figures = evaluation.figures
    if name in ("roc", "det"):
        sections = {SECTION_NAMES[kind]: figures.get(kind) or {} for kind in evaluation.curves}
        aucs = [f"{kind} AUC {number(section.get('roc_auc'), 4)}" for kind, section in sections.items()]
        eers = [f"{kind} EER {percent(section.get('eer'))}" for kind, section in sections.items()]
        return "; ".join(aucs if name == "roc" else eers) + "."
    if name in ("confusion", "histograms"):
        rows = confusion_rows(figures)
        return " ".join(
            f"{KIND_NAMES[kind]}: {count(hits)} matched, {count(misses)} not." for kind, hits, misses in rows
        )
    if name == "reliability" and evaluation.reliability is not None:
        return f"ECE {number(evaluation.reliability.ece, 3)}, Brier score {number(evaluation.reliability.brier, 3)}."
    if name == "breakdowns":
        return "The tables below have the figures."
    if name == "families":
        return f"{plural(len(evaluation.families), 'family', 'families')}; the table below has the counts."
    return f"A {method} projection with twins joined by lines."
