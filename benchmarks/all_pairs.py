"""How long does a full evaluation take? All pairs of 6,000 images, scored and reported, in 20 s and 3 GB.

Embeddings are synthetic and seeded: 350 people in families of two, with a family part, an own part and noise.
Exit 0 for PASS, 1 for FAIL.
Run: python benchmarks/all_pairs.py [--images 6000] [--dim 384] [--threads 2]
"""

import argparse
import itertools
import os
import resource
import sys
import time

MAX_SECONDS, MAX_GIB = 20.0, 3.0
NUM_PEOPLE, LATENT = 350, 32
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.images < 2 * NUM_PEOPLE or options.dim < 1 or options.threads < 1:
        parser.error(f"--images must be {2 * NUM_PEOPLE} or more, --dim and --threads 1 or more")
    for name in THREAD_VARIABLES:  # read once, when numpy loads its BLAS
        os.environ[name] = str(options.threads)
    return measure(options.images, options.dim, options.threads)


def measure(images: int, dim: int, threads: int) -> int:
    """Run, print, and return 0 for PASS or 1 for FAIL. numpy loads here, after the thread count is set."""
    import numpy as np

    from twin_dcal.verification import metrics, report, scores

    rng = np.random.default_rng(0)
    person = rng.permutation(np.arange(images) % NUM_PEOPLE)
    family = person // 2
    parts = rng.normal(size=(3, images, LATENT)) * np.array([1.0, 0.5, 0.7])[:, None, None]
    latent = parts[0, family] + parts[1, person] + parts[2]
    embeddings = (latent @ rng.normal(size=(LATENT, dim))).astype(np.float32)

    marks, cpu = [time.perf_counter()], time.process_time()
    pairs = scores.all_pair_scores(embeddings, person, family)
    marks.append(time.perf_counter())
    figures = report.evaluation_figures(pairs)
    marks.append(time.perf_counter())
    impostors = (pairs.twin, pairs.unrelated, pairs.impostors)
    sorted_scores = (metrics.sort_scores(pairs.genuine, kind) for kind in impostors)
    curves = [metrics.roc(each, corners_only=True) for each in sorted_scores]
    marks.append(time.perf_counter())
    cpu = time.process_time() - cpu

    wall = marks[-1] - marks[0]
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024**3
    steps = [after - before for before, after in itertools.pairwise(marks)]
    total = figures["all"]["num_genuine"] + figures["all"]["num_impostors"]
    print(report.format_table(figures))
    print(f"{images:,} images x {dim}, {threads} threads: {total:,} pairs")
    print("pair scores {:.2f} s, figures {:.2f} s, curves {:.2f} s".format(*steps), end=" ")
    print(f"({sum(curve.thresholds.size for curve in curves):,} points)")
    print(f"wall {wall:.2f} s, CPU {cpu:.2f} s, peak memory {gib:.2f} GiB")
    passed = wall <= MAX_SECONDS and gib <= MAX_GIB
    print(f"{'PASS' if passed else 'FAIL'}: limits {MAX_SECONDS:g} s wall, {MAX_GIB:g} GiB")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
