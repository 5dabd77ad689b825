"""How fast are SynTwins drawn? 60 images a second of CPU time on one thread at 112 px, files included.

Exit 0 for PASS, 1 for FAIL.
Run: OMP_NUM_THREADS=1 python benchmarks/synth.py [--families 12] [--image_size 112] [--difficulty medium]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from twin_dcal.synth.generate import Settings, generate

MIN_IMAGES_PER_SECOND = 60


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--families", type=int, default=12)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--image_size", type=int, default=112)
    parser.add_argument("--difficulty", default="medium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "warm", Settings(families=3, images=2, image_size=options.image_size))
        began = time.process_time()
        count = generate(Path(folder) / "set", Settings(**vars(options)))
        seconds = time.process_time() - began
    rate = count / seconds
    passed = rate >= MIN_IMAGES_PER_SECOND
    print(f"{count} images of {options.image_size} px, {options.difficulty}: {rate:.0f} a second of CPU time")
    print(f"{'PASS' if passed else 'FAIL'}: limit {MIN_IMAGES_PER_SECOND}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
