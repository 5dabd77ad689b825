"""What `dcal-evaluate --explain` does: measure the explanations of a model, draw some pairs and the worst decisions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ConfigError, ImageError
from twin_dcal.evaluation.protocol import Comparisons
from twin_dcal.evaluation.result import Evaluation, WorstPair
from twin_dcal.files import replacing, write_text

from .attention import refuse_without_attention
from .figure import figure_png, pair_figure
from .findings import Findings, findings, markdown
from .overlays import Pixels, enlarged, overlay, seen
from .pair import DEFAULT, Explainable, Method, explain_pair
from .result import PairExplanation
from .sample import KnownTruth, StudyPair, choose_pairs, find_truth
from .study import read_pair, study

FIGURES_FOLDER, FIGURE_STEM = "visualizations", "explained"
NUM_FIGURES = 6
_OVERLAY_SIDE = 160


@dataclass(frozen=True)
class Wanted:
    """How much to explain: `num_pairs` are measured; of the worst decisions `num_overlays` are drawn for the report.

    faces: False draws nothing; threshold: the cosine that decides, for the titles of the figures.
    """

    num_pairs: int = 40
    num_overlays: int = 0
    seed: int = 0
    method: Method = DEFAULT
    faces: bool = True
    threshold: float | None = None


@dataclass(frozen=True, eq=False)
class Explained:
    """The findings, the files written, and overlays of the worst pairs by their two paths."""

    findings: Findings
    files: Sequence[Path]
    overlays: dict[tuple[str, str], tuple[Pixels, Pixels]]


def explain_evaluation(
    source: Explainable, comparisons: Comparisons, evaluation: Evaluation, folder: str | Path, wanted: Wanted
) -> Explained:
    """Write explanations.json and .md, and figures of some pairs into visualizations/, readable by their owner only.

    ConfigError for comparisons without a genuine and an impostor pair to explain, and for a model without attention.
    """
    refuse_without_attention(source.model)
    home, truth = Path(folder), find_truth(comparisons)
    pairs = choose_pairs(comparisons, wanted.num_pairs, wanted.seed, truth)
    if len({pair.kind for pair in pairs}) < 2:
        raise ConfigError(
            f"{comparisons.source}: --explain needs genuine pairs and impostors; use a set that has both"
        )
    measured = study(source, pairs, truth, wanted.seed)
    told = findings(measured) | {"data": comparisons.source, "method": wanted.method}
    write_text(home / "explanations.json", json.dumps(told, indent=1) + "\n")
    write_text(home / "explanations.md", markdown(told))
    files = [home / "explanations.md", *_draw(source, pairs, truth, home / FIGURES_FOLDER, wanted)]
    overlays = _worst_overlays(source, evaluation, wanted) if wanted.faces else {}
    return Explained(told, files, overlays)


def _draw(
    source: Explainable, pairs: Sequence[StudyPair], truth: KnownTruth | None, folder: Path, wanted: Wanted
) -> list[Path]:
    for old in folder.glob(f"{FIGURE_STEM}_*.png"):
        old.unlink()
    if not wanted.faces:
        return []
    drawn = []
    for number, pair in enumerate(_first_of_each_kind(pairs, NUM_FIGURES // 2), start=1):
        pixels = read_pair(pair, source.model.image_size)
        explanation = explain_pair(source, *pixels, method=wanted.method)
        known = truth.differences(pair) if truth is not None and pair.kind == "twin" else None
        title = _title(pair, explanation, wanted.threshold)
        truths = None
        if known is not None:
            one, two = (seen(map_, source.model.image_size) for map_ in known[0])
            truths = one, two
        figure = pair_figure(explanation, *pixels, title=title, truth=truths)
        path = folder / f"{FIGURE_STEM}_{number:02d}_{pair.kind}.png"
        with replacing(path) as file:
            file.write(figure_png(figure))
        drawn.append(path)
    return drawn


def _first_of_each_kind(pairs: Sequence[StudyPair], count: int) -> list[StudyPair]:
    kinds = dict.fromkeys(pair.kind for pair in pairs)
    return [pair for kind in kinds for pair in [one for one in pairs if one.kind == kind][:count]]


def _title(pair: StudyPair, explanation: PairExplanation, threshold: float | None) -> str:
    kind = {"twin": "twins", "genuine": "one person"}.get(pair.kind, "two people")
    if threshold is None:
        return kind
    decision = "same person" if explanation.similarity >= threshold else "different people"
    return f"{kind}  ·  decision: {decision} (threshold {threshold:+.3f})"


def _worst_overlays(
    source: Explainable, evaluation: Evaluation, wanted: Wanted
) -> dict[tuple[str, str], tuple[Pixels, Pixels]]:
    """Of the worst decisions of each kind in turn, up to `num_overlays`; those without images are passed over."""
    made = {}
    for pair in _worst_first(evaluation)[: wanted.num_overlays]:
        try:
            pixels = read_pair(StudyPair(pair.first, pair.second, pair.kind, ""), source.model.image_size)
        except ImageError:
            continue
        told = explain_pair(source, *pixels, method=wanted.method, num_matches=0)
        made[pair.first, pair.second] = pair_overlays(told, pixels)
    return made


def pair_overlays(told: PairExplanation, pixels_2HWC: NDArray[np.uint8]) -> tuple[Pixels, Pixels]:
    """Both pictures with the attribution over them, on one scale, at a size for a gallery."""
    maps: tuple[Any, ...] = (told.attribution1, told.attribution2)
    reach = max(float(np.abs(map_).max()) for map_ in maps) or None
    one, two = (
        overlay(enlarged(pixels, max(_OVERLAY_SIDE, *pixels.shape[:2])), map_, signed=True, reach=reach)
        for pixels, map_ in zip(pixels_2HWC, maps, strict=True)
    )
    return one, two


def _worst_first(evaluation: Evaluation) -> list[WorstPair]:
    by_kind: dict[str, list[WorstPair]] = {}
    for pair in (*evaluation.false_matches, *evaluation.false_non_matches):
        by_kind.setdefault(pair.kind, []).append(pair)
    longest = max(map(len, by_kind.values()), default=0)
    return [pairs[rank] for rank in range(longest) for pairs in by_kind.values() if rank < len(pairs)]
