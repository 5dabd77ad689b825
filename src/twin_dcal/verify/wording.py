"""Decisions in words, for a terminal."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from twin_dcal.data.findings import first_few
from twin_dcal.inference.result import TemplateResult, VerificationResult
from twin_dcal.model_file.familiarity import UNLIKE
from twin_dcal.names import one_a_line, printable
from twin_dcal.percent import percent
from twin_dcal.plural import plural

SET_BY = {
    "checkpoint": "stored with the model", "user": "set by you", "optimize_threshold": "chosen on your pairs",
}  # fmt: skip


def decision_words(same: bool) -> str:
    return "SAME PERSON" if same else "DIFFERENT PEOPLE"


def told(result: VerificationResult) -> str:
    """Decision, score, threshold, error rates and time, a line each."""
    score = "none (the model has no calibration)"
    if result.verification_score is not None:
        score = (
            f"{result.verification_score:.3f} (probability that both show one person, where that is as likely as two "
            "people beforehand)"
        )
    lines = [
        f"decision    {decision_words(result.verification_decision)}",
        f"similarity  {result.similarity:+.4f} (from -1 to 1; same from {result.threshold:+.4f})",
        f"score       {score}",
        f"threshold   {_source(result.threshold_source)}",
    ]
    if result.estimated_fmr is not None and result.estimated_fnmr is not None:
        lines.append(
            f"in validation  {percent(result.estimated_fmr)} of impostor pairs were as similar or more, "
            f"{percent(result.estimated_fnmr)} of genuine pairs were less similar"
        )
    lines += [f"warning     {in_words(warning)}" for warning in result.warnings]
    lines.append(f"time        {result.elapsed_ms:.0f} ms")
    return one_a_line(lines)


def photographs_table(result: TemplateResult) -> str:
    """What each photograph does, a line each. A number that is not known, of the only one of its side, is a dash."""
    lines = [f"{'photograph':12}  {'weight':>6}  {'adds':>7}  {'likeness':>8}  of"]
    for side, photographs in zip(("first", "second"), result.photographs, strict=True):
        for number, one in enumerate(photographs, start=1):
            adds, likeness = (
                "–" if one[key] is None else f"{one[key]:+.3f}" for key in ("contribution", "likeness")
            )
            unlike = "   unlike the others" if one["outlier"] else ""
            lines.append(
                f"{f'{side} {number}':12}  {one['weight']:6.2f}  {adds:>7}  {likeness:>8}  {one['path']}{unlike}"
            )
    return one_a_line(lines)


def pairs_table(
    results: Sequence[Mapping[str, Any]], names: Mapping[str, str], doubts: Sequence[str] = ()
) -> str:
    """Pairs by falling similarity, a line each, then the reasons of those that were not compared, and warnings.

    Args: results: of `batch_verify`, at least one with a decision; names: how paths are called; doubts: warnings about
    all decisions.
    """
    names = {path: printable(name) for path, name in names.items()}  # as wide as they are shown
    decided = [result for result in results if result["error"] is None]
    ordered = sorted(decided, key=lambda result: -result["similarity"])
    width = max(len(names[result[key]]) for result in decided for key in ("img1_path", "img2_path"))
    lines = [f"{'similarity':>10}  {'decision':9}  pair"]
    for result in ordered:
        one, two = names[result["img1_path"]], names[result["img2_path"]]
        word = "same" if result["same_person"] else "different"
        lines.append(f"{result['similarity']:>+10.4f}  {word:9}  {one:{width}}  {two}")
    num_same = sum(result["same_person"] for result in decided)
    lines.append(
        f"{num_same} of {plural(len(decided), 'pair')} at or above the threshold {decided[0]['threshold']:+.4f}"
    )
    if len(decided) < len(results):
        lines.append(f"{plural(len(results) - len(decided), 'pair')} not compared:")
        reasons = dict.fromkeys(
            reason for result in results for reason in (result["error"] or "").split("; ")
        )
        lines += [f"  {reason}" for reason in reasons if reason]
    lines += [
        f"warning     {text}" for text in [*doubts, *_unlike(decided, names), *_of_pictures(decided, names)]
    ]
    return one_a_line(lines)


def _of_pictures(results: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[str]:
    """What else is to be known of single pictures, once each; what several have in common, but for measured values, in
    one line."""
    told = {
        (names[result[f"{side}_path"]], text.removeprefix(f"{side}: ")): None
        for result in results
        for text in result["warnings"]
        for side in ("img1", "img2")
        if text.startswith(f"{side}: ") and UNLIKE not in text
    }
    alike: dict[str, list[tuple[str, str]]] = {}
    for name, text in told:
        alike.setdefault(text.partition(" (")[0], []).append((name, text))
    return [
        ": ".join(found[0]) if len(found) == 1 else f"{fault}: {first_few([name for name, _ in found])}"
        for fault, found in alike.items()
    ]


def _unlike(results: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[str]:
    """One line for all pictures that are unlike those of training."""
    judged = {
        names[result[f"img{side + 1}_path"]]: known
        for result in results
        for side, known in enumerate(result["familiarity"])
        if known is not None
    }
    beyond = [name for name, known in judged.items() if known["beyond"]]
    if not beyond:
        return []
    look, them = ("looks", "it") if len(beyond) == 1 else ("look", "them")
    return [
        f"{len(beyond):,} of {plural(len(judged), 'picture')} {look} unlike those the model was trained on (sharpness, "
        f"texture, colours), and its error rates say little about {them}: {first_few(beyond)}"
    ]


def _source(origin: Mapping[str, Any]) -> str:
    text = SET_BY[origin["set_by"]]
    if "probability" in origin:
        text += f" as the probability {origin['probability']:g}"
    if origin.get("criterion") and origin.get("data"):
        text += f", {origin['criterion']} on {origin['data']}"
    if all(origin.get(key) is not None for key in ("fmr", "fnmr", "impostors")):
        upper = origin.get("fmr_upper")
        up_to = "" if upper is None else f", up to {percent(upper)} on others"
        on = f"{origin['impostors']} impostors{up_to}"
        text += f": FMR {percent(origin['fmr'])} ({on}), FNMR {percent(origin['fnmr'])}"
    return text


def in_words(warning: str) -> str:
    """A warning of the engine, with its pictures called by their place."""
    found = _OF_PICTURE.match(warning)
    if found is None:
        return warning
    place = "first" if found["side"] == "img1" else "second"
    rest = warning[found.end() :]
    if found["photo"]:
        return f"{place} person, {found['photo']}: {rest}"
    return f"{place} {'person' if _OF_SEVERAL.match(rest) else 'picture'}: {rest}"


_ONE = r"photo \d+|.+ at \d+\.\d\d s"  # one of several photographs, a frame of a video
_OF_PICTURE = re.compile(rf"(?P<side>img1|img2)( (?P<photo>{_ONE}))?: ")
_OF_SEVERAL = re.compile(rf"frames of one video|({_ONE}) (and|does not look)")
