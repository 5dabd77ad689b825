"""How fast are SynTwins drawn? Images a second of one core, files included.

    OMP_NUM_THREADS=1 python benchmarks/synth.py [--image-size 112] [--difficulty medium]

CPU time of one process (`time.process_time`), so that a busy neighbour does not count: people painted, photos taken,
JPEG files, difference maps and records written to a temporary folder. The middle of several rounds.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from twin_dcal.synth.folder import NOTES_NAME
from twin_dcal.synth.generate import Settings, write_family
from twin_dcal.synth.identity import DIFFICULTIES

TARGET = 60


def images_a_second(settings: Settings, families: range) -> float:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / NOTES_NAME).mkdir()
        began = time.process_time()
        for family in families:
            write_family(Path(folder), settings, family)
        spent = time.process_time() - began
        return len(list(Path(folder).rglob("*.jpg"))) / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--difficulty", choices=DIFFICULTIES, default="medium")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size, difficulty = options.image_size, options.difficulty
    settings = Settings(images=options.images, image_size=size, difficulty=difficulty)
    images_a_second(settings, range(2))  # warm up
    rates = [images_a_second(settings, range(5 * turn, 5 * turn + 5)) for turn in range(options.rounds)]
    middle = statistics.median(rates)
    print(f"{difficulty}, {size} px, {options.images} photos a person, one core of this machine")
    verdict = f", target {TARGET}: {'met' if middle >= TARGET else 'MISSED'}" if size == 112 else ""
    print(f"{middle:.0f} images/s [{min(rates):.0f}, {max(rates):.0f}]{verdict}")


if __name__ == "__main__":
    main()
