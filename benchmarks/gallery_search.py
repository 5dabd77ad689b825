"""A gallery of a million people searched with FAISS' shortlist, against comparing with everybody by NumPy.

    OMP_NUM_THREADS=1 python benchmarks/gallery_search.py
    OMP_NUM_THREADS=1 python benchmarks/gallery_search.py --people 100000 --others

One photograph of each person is enrolled; queries are other photographs: a quarter of people whose twin is enrolled as
well, a quarter of other people, and half of strangers, whose ten nearest are all chance, the hardest to find.
CPU seconds; both ways take turns, query by query. `--others` also measures what else FAISS has, for the choice.
Limits: recall@10 of .99 or more, all similarities equal to the last digit, 8 GB. Exit 0 for PASS, 1 for FAIL.

The mixture: a person is a direction; a photograph is that direction, more or less of it, and noise. Variances fall off
exponentially, as those of MobileFaceNet do, in axes turned at random. Its cosines on 712 photographs of 178 people (the
training split of the look-alikes in docs/results.md) were .61 ± .15 of one person and .00 ± .10 of two; those that are
drawn are printed. Directions of twins have a cosine of .8, so that photographs of twins lie at .5: at an equal error
rate of .36, that of face networks on real twins, they lie .7 standard deviations below those of one person.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from twin_dcal.inference.aligning import FaceInfo
from twin_dcal.inference.gallery_file import Photograph, Stored
from twin_dcal.inference.people import People, most_alike
from twin_dcal.inference.templates import Side

MIN_RECALL, MAX_GB, TOP = 0.99, 8.0, 10
BLOCKS, FAMILY_EVERY = 50, 100
STRANGERS_SPREAD, TWIN_COSINE, OWN, OWN_SPREAD = 0.095, 0.8, 0.79, 0.12


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512, help="numbers of a feature")
    parser.add_argument("--others", action="store_true", help="FAISS' exact index, IVF and HNSW as well")
    options = parser.parse_args()
    if options.people < 100_000:
        parser.error("--people: a shortlist is made from 100,000 on")
    features, queries, own = drawn(options.people, options.width)
    people = People(stored_of(features), None)
    sides = [Side("query", [None], query[None], [FaceInfo()]) for query in queries]
    print(f"{options.people:,} people, {options.width} numbers each, {len(sides)} queries")
    builds = [seconds(lambda: people.scores(sides[0], "mean", [0]))[0]]
    peaks = [peak_gb()]
    builds.append(seconds(lambda: people.shortlist(sides[0], "mean", TOP))[0])
    times, recalls, same, expected = [], [], True, []
    for side in sides:
        by_numpy, (scores, nearest) = seconds(lambda side=side: search(people, side, None))
        by_faiss, (of_list, found) = seconds(
            lambda side=side: search(people, side, people.shortlist(side, "mean", TOP))
        )
        times.append((by_numpy, by_faiss))
        expected.append(nearest)
        recalls.append(np.isin(nearest, found).mean())
        same &= np.array_equal(scores[found], of_list[found])
    peaks.append(peak_gb())
    tell_cosines(features, queries, own)
    passed = verdict(np.array(times), np.array(recalls), same, builds, peaks)
    if options.others:
        tell_others(features, queries, expected, np.median(times, axis=0)[0])
    return 0 if passed else 1


def drawn(people, width):
    """Features (P, E) of everybody, those of queries (Q, E), and the person of each query, -1 for a stranger."""
    rng = np.random.default_rng(0)
    deviations = np.sqrt(_variances(width))
    turned = np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)

    def directions(count):
        return unit(rng.standard_normal((count, width), dtype=np.float32) * deviations)

    def photographs(of):
        share = np.clip(rng.normal(OWN, OWN_SPREAD, (len(of), 1)), 0.2, 0.99).astype(np.float32)
        return unit((share * of + np.sqrt(1 - share**2) * directions(len(of))) @ turned)

    features, queries, own = np.empty((people, width), np.float32), [], []
    for rows in np.array_split(np.arange(people), BLOCKS):
        persons = directions(len(rows))
        first = persons[::FAMILY_EVERY][: len(persons[1::FAMILY_EVERY])]
        persons[1::FAMILY_EVERY] = unit(
            TWIN_COSINE * first + np.sqrt(1 - TWIN_COSINE**2) * directions(len(first))
        )
        features[rows] = photographs(persons)
        queries.append(photographs(np.concatenate([persons[[0, FAMILY_EVERY // 2]], directions(2)])))
        own += [rows[0], rows[FAMILY_EVERY // 2], -1, -1]
    return features, np.concatenate(queries), np.array(own)


def _variances(width):
    """(E,) falling off exponentially, so that cosines of two strangers have their spread."""
    scales = np.geomspace(1, 100 * width, 4000)
    falling = np.exp(-np.arange(width) / scales[:, None])
    falling /= falling.sum(axis=1, keepdims=True)
    spread = np.sqrt((falling**2).sum(axis=1))
    return falling[np.abs(spread - STRANGERS_SPREAD).argmin()].astype(np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def stored_of(features):
    """What a gallery holds in memory of one photograph of each."""
    photographs = tuple(
        Photograph(person=f"person {row:08}", path=f"people/{row:08}.jpg", sha256=f"{row:064x}")
        for row in range(len(features))
    )
    return Stored(photographs, features)


def search(people, side, shortlist):
    scores = people.scores(side, "mean", shortlist)
    return scores, most_alike(scores, TOP)


def seconds(step):
    began = time.process_time()
    result = step()
    return time.process_time() - began, result


def peak_gb():
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) * 1024 / 1e9


def tell_cosines(features, queries, own):
    known = own >= 0
    genuine = np.einsum("qe,qe->q", queries[known], features[own[known]])
    twins = np.einsum("qe,qe->q", queries[::4], features[own[::4] + 1])
    strangers = queries[~known] @ features[:: max(len(features) // 1000, 1)].T
    told = (
        f"{name} {cosines.mean():.2f} ± {cosines.std():.2f}"
        for name, cosines in (("one person", genuine), ("twins", twins), ("strangers", strangers))
    )
    print("cosines: " + ", ".join(told))


def verdict(times, recalls, same, builds, peaks):
    by_numpy, by_faiss = np.median(times, axis=0)
    ratios = times[:, 0] / times[:, 1]
    low, high = np.quantile(ratios, [0.05, 0.95])
    kinds = {"with a twin": recalls[::4], "others": recalls[1::4], "strangers": recalls.reshape(-1, 4)[:, 2:]}
    print(f"before the first search: NumPy {builds[0]:.1f} s, FAISS {builds[1]:.1f} s more")
    print(
        f"a search: NumPy {1e3 * by_numpy:.1f} ms, FAISS {1e3 * by_faiss:.2f} ms; ratio "
        f"{np.median(ratios):.0f} (5 to 95 % of queries: {low:.0f} to {high:.0f})"
    )
    print(f"peak memory: NumPy {peaks[0]:.2f} GB, FAISS {peaks[1]:.2f} GB")
    print(
        f"recall@{TOP} {recalls.mean():.4f}: "
        + ", ".join(f"{kind} {each.mean():.4f}" for kind, each in kinds.items())
        + f"; similarities {'equal' if same else 'DIFFER'}"
    )
    passed = bool(recalls.mean() >= MIN_RECALL and same and peaks[1] < MAX_GB)
    print(
        f"{'PASS' if passed else 'FAIL'}: limits recall {MIN_RECALL}, equal similarities, below {MAX_GB:g} GB"
    )
    return passed


def tell_others(features, queries, expected, by_numpy):
    """Recall of the ten nearest among twenty found, as its candidates are compared exactly again."""
    import faiss

    lists = int(4 * np.sqrt(len(features)))
    flat = faiss.IndexFlatIP(features.shape[1])
    ivf = faiss.index_factory(features.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    hnsw = faiss.IndexHNSWFlat(features.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    ways = [("exact index", flat, [None]), ("IVF, nprobe", ivf, [lists // 16, lists // 4, lists // 2]),
            ("HNSW32, efSearch", hnsw, [64, 256, 1024])]  # fmt: skip
    for name, index, settings in ways:
        build, _ = seconds(
            lambda index=index: (index.train(features[:: len(features) // 50_000]), index.add(features))
        )
        for setting in settings:
            if name.startswith("IVF"):
                index.nprobe = setting
            elif setting:
                index.hnsw.efSearch = setting
            spent, found = seconds(
                lambda index=index: [index.search(query[None], 20)[1][0] for query in queries]
            )
            recall = np.mean([np.isin(*pair).mean() for pair in zip(expected, found, strict=True)])
            each = spent / len(queries)
            print(f"{name} {setting or ''}: built in {build:.1f} s, recall@{TOP} {recall:.4f}, {1e3 * each:.2f} ms "
                  f"({by_numpy / each:.1f} times as fast as NumPy)")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
