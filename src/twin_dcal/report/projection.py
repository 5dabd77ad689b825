"""Embeddings on a plane: which images, where each lands, and the plot with twins joined.

t-SNE through scikit-learn where it is installed, else the first two principal components in numpy. Both are the
same from run to run.
"""

import importlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from twin_dcal.evaluation.result import Evaluation, Points
from twin_dcal.plural import plural

from .labels import write_beside
from .theme import LIGHT
from .wording import shortened, shown

MAX_IMAGES = 1000
"""t-SNE of 1,000 points takes a few seconds; its cost grows a little faster than their number."""
MAX_NAMED = 4
_MIN_TSNE = 12
Plane = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Projection:
    """What is drawn: `plane` (M, 2) places of images, and for each its person and family. `method` says how."""

    plane: Plane
    people: Sequence[str]
    families: Sequence[str]
    method: str
    num_images: int


def project(points: Points, seed: int) -> Projection | None:
    """Places for at most `MAX_IMAGES` images, None where there are fewer than three."""
    chosen = choose(points.people, points.families, MAX_IMAGES, np.random.default_rng((seed, 0)))
    if chosen.size < 3:
        return None
    vectors = points.embeddings[chosen].astype(np.float64)
    if not np.isfinite(vectors).all():
        return None
    plane, method = tsne(vectors, seed)
    people = [points.people[index] for index in chosen]
    families = [points.families[index] for index in chosen]
    return Projection(plane, people, families, method, len(points.people))


def choose(
    people: Sequence[str], families: Sequence[str], most: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Rows to draw: whole families in random order while there is room, then as many images of each as fit.

    Every chosen person has at least one image, and no person gets a second before all have their first.
    Returns: ascending indices, at most `most`.
    """
    names = sorted(set(families))
    of_family: dict[str, set[str]] = {}
    for person, family in zip(people, families, strict=True):
        of_family.setdefault(family, set()).add(person)
    kept: set[str] = set()
    for index in rng.permutation(len(names)):
        members = of_family[names[int(index)]]
        if len(kept) + len(members) <= most:
            kept |= members
    seen: dict[str, int] = {}
    turns = []
    for row in rng.permutation(len(people)).tolist():
        if people[row] in kept:
            turns.append((seen.setdefault(people[row], 0), row))
            seen[people[row]] += 1
    return np.array(sorted(row for _, row in sorted(turns)[:most]), dtype=np.intp)


def principal_components(vectors: NDArray[np.float64]) -> Plane:
    """(M, 2): the two directions of most variance; signs fixed, so that the picture does not flip."""
    centred = vectors - vectors.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(vectors), 2))
    for axis, direction in enumerate(directions[:2]):
        sign = np.sign(direction[np.argmax(np.abs(direction))])
        plane[:, axis] = centred @ direction * sign
    return plane


def tsne(vectors: NDArray[np.float64], seed: int) -> tuple[Plane, str]:
    """Places and the method's name; principal components without scikit-learn, or for too few images."""
    start = principal_components(vectors)
    if len(vectors) < _MIN_TSNE:
        return start, "PCA"
    try:
        manifold = importlib.import_module("sklearn.manifold")
        threads = importlib.import_module("threadpoolctl")  # comes with scikit-learn
    except ImportError:
        return start, "PCA"
    start *= 1e-4 / (start[:, 0].std() or 1.0)
    perplexity = min(30.0, (len(vectors) - 1) / 4)
    tsne = manifold.TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=seed)
    # One thread: sums in one order give the same picture everywhere, and so few points gain nothing from more.
    with threads.threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # about rounding and defaults; nothing a reader of the report can act on
        return np.asarray(tsne.fit_transform(vectors.astype(np.float32)), dtype=np.float64), "t-SNE"


def embedding_figure(evaluation: Evaluation, projection: Projection) -> Figure:
    """Images as dots, a line between the middles of twins; the two of a family differ in colour and shape."""
    figure = Figure((4.9, 4.7), layout="constrained")
    axes = figure.subplots()
    people = sorted(set(zip(projection.families, projection.people, strict=True)))
    rows = {person: np.flatnonzero(np.array(projection.people) == person) for _, person in people}
    middle = {person: projection.plane[index].mean(axis=0) for person, index in rows.items()}
    members: dict[str, list[str]] = {}
    for family, person in people:
        members.setdefault(family, []).append(person)
    size = 4.5 if len(projection.people) <= 400 else 3.2
    for turn, colour, sign in ((0, "one", "o"), (1, "two", "^")):
        of_turn = [person for twins in members.values() for person in twins[turn::2]]
        if of_turn:
            index = np.concatenate([rows[person] for person in of_turn])
            x, y = projection.plane[index].T
            axes.plot(x, y, sign, color=LIGHT[colour], markersize=size, markeredgewidth=0, alpha=0.75)
    for twins in members.values():
        if len(twins) > 1:
            x, y = np.array([middle[person] for person in twins]).T
            axes.plot(x, y, "-", color=LIGHT["ink"], linewidth=0.9, zorder=4)
    span = np.ptp(projection.plane, axis=0).max() or 1.0
    centre = (projection.plane.max(axis=0) + projection.plane.min(axis=0)) / 2
    axes.set(xticks=[], yticks=[], xlim=centre[0] + np.array([-0.53, 0.53]) * span,
             ylim=centre[1] + np.array([-0.53, 0.53]) * span, aspect="equal")  # fmt: skip
    axes.spines[:].set_visible(False)
    axes.set_title(f"{projection.method}: {_extent(projection, len(people))}", loc="left")
    _name_worst(figure, evaluation, members, middle, projection)
    return figure


def _extent(projection: Projection, num_people: int) -> str:
    shown_images = len(projection.people)
    part = "" if shown_images == projection.num_images else f"{shown_images:,} of "
    people = plural(num_people, "person", "people")
    return f"{part}{plural(projection.num_images, 'image')}, {people}, twins joined"


def _name_worst(
    figure: Figure,
    evaluation: Evaluation,
    members: dict[str, list[str]],
    middle: dict[str, Plane],
    projection: Projection,
) -> None:
    """The families with the most twin false matches among those drawn, by name."""
    axes = figure.axes[0]
    drawn = [family for family in evaluation.families if family.family in members and family.num_twin]
    drawn.sort(key=lambda family: (-family.num_twin_false_matches / family.num_twin, family.family))
    worst = [family.family for family in drawn[:MAX_NAMED] if family.num_twin_false_matches]
    anchors = [
        np.mean([middle[person] for person in members[family]], axis=0, keepdims=True) for family in worst
    ]
    names = [shortened(shown(family), 18) for family in worst]
    if names:
        write_beside(figure, axes, names, [LIGHT["twin"]] * len(names), [*anchors, projection.plane])
