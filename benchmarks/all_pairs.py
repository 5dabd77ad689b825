"""How long does a full evaluation take? All pairs of 6,000 images: figures, curves and intervals over families.

Limits: up to 6,000 images 60 s and 3 GB; beyond (50,000 images are 1.25 billion pairs) 8 GB. Embeddings are synthetic
and seeded: people with 16 images or a few more in families of two, with a family part, an own part and noise.
Exit 0 for PASS, 1 for FAIL.
Run: python benchmarks/all_pairs.py [--images 6000] [--dim 384] [--threads 2]
"""

import argparse
import itertools
import os
import resource
import sys
import time
from pathlib import Path

MAX_SECONDS, MAX_GB, MAX_GB_BEYOND = 60.0, 3.0, 8.0
FULL_SIZE = 6000
MIN_PEOPLE, IMAGES_EACH, LATENT = 350, 16, 32
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--images", type=int, default=FULL_SIZE)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.images < 2 * MIN_PEOPLE or options.dim < 1 or options.threads < 1:
        parser.error(f"--images must be {2 * MIN_PEOPLE} or more, --dim and --threads 1 or more")
    for name in THREAD_VARIABLES:  # read once, when numpy loads its BLAS
        os.environ[name] = str(options.threads)
    return measure(options.images, options.dim, options.threads)


def measure(images: int, dim: int, threads: int) -> int:
    """Run, print, and return 0 for PASS or 1 for FAIL. numpy loads here, after the thread count is set."""
    from twin_dcal.metrics import error_rates, intervals, pair_stream

    embeddings, person = made_up(images, dim)
    marks, cpu = [time.perf_counter()], time.process_time()
    source = pair_stream.AllPairs(embeddings, person, person // 2)
    counts = pair_stream.count_pairs(source)
    marks.append(time.perf_counter())
    sections = {name: counts.section(name) for name in pair_stream.SECTIONS}
    figures = {name: figures_of(section) for name, section in sections.items()}
    marks.append(time.perf_counter())
    curves = [error_rates.roc(section, corners_only=True) for section in sections.values()]
    marks.append(time.perf_counter())
    threshold = error_rates.eer(sections["twin"]).threshold
    found = intervals.family_intervals(source, threshold=threshold, counts=counts)
    marks.append(time.perf_counter())
    cpu = time.process_time() - cpu

    for name, section in figures.items():
        print(f"{name}: " + ", ".join(f"{figure} {value:.4g}" for figure, value in section.items()))
        print(
            "    " + ", ".join(f"{key} [{x.low:.4g}, {x.high:.4g}]" for key, x in found.figures[name].items())
        )
    print(
        "headline: "
        + ", ".join(
            f"{key} {x.estimate:.4g} [{x.low:.4g}, {x.high:.4g}]" for key, x in found.headline.items()
        )
    )
    steps = [after - before for before, after in itertools.pairwise(marks)]
    print(
        f"{images:,} images x {dim}, {threads} threads: {source.num_pairs:,} pairs, {found.num_families} families"
    )
    print("count {:.1f} s, figures {:.1f} s, curves {:.1f} s, intervals {:.1f} s".format(*steps), end=" ")
    print(f"({found.num_units} units left out; {sum(c.thresholds.size for c in curves):,} points)")
    return verdict(images, marks[-1] - marks[0], cpu)


def made_up(images, dim):
    """(embeddings, person numbers); a family is two people in a row."""
    import numpy as np

    rng = np.random.default_rng(0)
    person = rng.permutation(np.arange(images) % max(MIN_PEOPLE, images // IMAGES_EACH))
    parts = rng.normal(size=(3, images, LATENT)) * np.array([1.0, 0.5, 0.7])[:, None, None]
    latent = parts[0, person // 2] + parts[1, person] + parts[2]
    return (latent @ rng.normal(size=(LATENT, dim))).astype(np.float32), person


def figures_of(section) -> dict[str, float]:
    from twin_dcal.metrics import error_rates, intervals

    figures = {name: exact(section) for name, (exact, _) in intervals.FIGURES.items()}
    for fmr in intervals.FMR_LEVELS:
        figures[f"tar_at_far_{fmr:g}"] = error_rates.operating_point(section, fmr).tar
    return figures


def peak_bytes() -> int:
    """Largest resident size of this process alone: getrusage's peak begins with that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def verdict(images: int, wall: float, cpu: float) -> int:
    peak = peak_bytes() / 1e9
    print(f"wall {wall:.1f} s, CPU {cpu:.1f} s, peak memory {peak:.2f} GB")
    if images <= FULL_SIZE:
        passed, limits = wall <= MAX_SECONDS and peak <= MAX_GB, f"{MAX_SECONDS:g} s wall, {MAX_GB:g} GB"
    else:
        passed, limits = peak <= MAX_GB_BEYOND, f"{MAX_GB_BEYOND:g} GB"
    print(f"{'PASS' if passed else 'FAIL'}: limits {limits}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
