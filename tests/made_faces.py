"""Small sets of made-up embeddings with people, families and names, for tests of the evaluation."""

import numpy as np

from twin_dcal.evaluation.protocol import Comparisons, pair_source
from twin_dcal.metrics.pair_stream import PairBlock


def faces(num_families=12, people_each=2, images_each=4, dim=16, seed=0, family=1.0, person=0.7, noise=0.5):
    """(Comparisons of all pairs, vectors). Families F00 …, people F00a …, images root/F00a/0.jpg …"""
    rng = np.random.default_rng((seed, 99))
    names, people, families, rows = [], [], [], []
    for number in range(num_families):
        centre = family * rng.normal(size=dim)
        for letter in "abcdef"[:people_each]:
            own = centre + person * rng.normal(size=dim)
            for image in range(images_each):
                names.append(f"/data/root/F{number:02d}{letter}/{image}.jpg")
                people.append(f"F{number:02d}{letter}")
                families.append(f"F{number:02d}")
                rows.append(own + noise * rng.normal(size=dim))
    comparisons = Comparisons(
        "made", names, np.array(people), np.array(families), None, {"name": "all pairs"}
    )
    return comparisons, np.array(rows, dtype=np.float32)


def uneven(num_families=12, large=14, dim=16, seed=4):
    """Families of two people with 2 to 4 images each; the first person has `large`."""
    rng = np.random.default_rng(seed)
    names, rows = [], []
    for number in range(num_families):
        centre = rng.normal(size=dim)
        for letter in "ab":
            own = centre + rng.normal(size=dim)
            images = large if (number, letter) == (0, "a") else int(rng.integers(2, 5))
            names += [f"F{number:02d}{letter}/{image}.png" for image in range(images)]
            rows += [own + 0.8 * rng.normal(size=dim) for _ in range(images)]
    people = np.array([name.split("/")[0] for name in names])
    families = np.array([person[:-1] for person in people])
    return Comparisons("made", names, people, families, None, {"name": "all pairs"}), np.array(
        rows, np.float32
    )


def all_listed(comparisons, vectors):
    """[(first row, second row, score as float, kind name)] of every pair, by the source's own blocks."""
    kinds = ("genuine", "twin", "unrelated", "other")
    out = []
    for block in pair_source(comparisons, vectors).blocks():
        for first, second, score, kind in zip(
            block.first, block.second, block.score, block.kind, strict=True
        ):
            out.append((int(first), int(second), float(score), kinds[kind]))
    return out


class Split:
    """A source in blocks of a few pairs."""

    def __init__(self, source, size):
        self.source, self.size = source, size
        self.num_pairs, self.on_grid = source.num_pairs, source.on_grid
        self.people, self.families = source.people, source.families

    def blocks(self):
        for block in self.source.blocks():
            for start in range(0, block.score.size, self.size):
                part = slice(start, start + self.size)
                yield PairBlock(block.first[part], block.second[part], block.score[part], block.kind[part])
