"""What becomes of model files that nobody made: 2,000 checkpoints, 2,000 exported models and others, mutated at random.

    OMP_NUM_THREADS=1 python benchmarks/fuzz_models.py [--seed 0] [--share 1] [--only checkpoint]

Each file must be refused in one line, or decide on pairs of pictures as other readers say that it does. Memory is the
largest resident size while a file is read and used, beside what was there before. The same seed makes the same files.
Exits 1 if anything else came of a file, or one took more than twice its size and what a sound one takes.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from fuzzing import checkpoints, judging, onnx_files, sound, states, weights
from fuzzing.watched import Case, Seen, watched

SLACK = 64 * 2**20
"""Bytes beside twice the file and what the runtime takes for a sound one: what allocators keep."""

_TURNS = {"onnx": 4, "by hand": 4}
"""Small files are read in a fraction of the time, and take more of the turns."""

Kinds = Mapping[str, tuple[int, Callable[[Random, bytes], bytes]]]


@dataclass(frozen=True)
class Group:
    """Files of one format. sound: by name, what mutations start from; wrong: reads and judges one; kinds: of 2,000."""

    suffix: str
    sound: Mapping[str, bytes]
    wrong: Callable[[Path], str | None]
    kinds: Kinds


@dataclass
class Tally:
    """Of one kind of mutation. peak: of the file that took most, in bytes beside twice its size."""

    files: int = 0
    refused: int = 0
    accepted: int = 0
    peak: int = 0
    other: list[str] = field(default_factory=list)


def groups(folder: Path, exported: bool = True) -> dict[str, Group]:
    """Args: exported: whether a checkpoint is exported too, which takes some seconds."""
    torch.set_num_threads(1)
    paths = sound.checkpoints(folder)
    files = {kind: path.read_bytes() for kind, path in paths.items()}
    models = {"by hand": sound.by_hand()} | (
        {"vit": sound.exported(folder, paths["vit"])} if exported else {}
    )
    return {
        "checkpoint": Group(".pth", files, judging.checkpoint_wrong, checkpoints.KINDS),
        "exported model": Group(".onnx", models, judging.onnx_wrong, onnx_files.KINDS),
        **{name: Group(*parts) for name, parts in weights.groups(folder).items()},
        **{name: Group(*parts) for name, parts in states.groups(folder, files).items()},
    }


def cases_of(group: Group, seed: int, share: float = 1.0) -> list[Case]:
    """At least one of each kind, the sound files in turn."""
    cases = []
    for kind, (count, change) in group.kinds.items():
        fitting = {
            name: data for name, data in group.sound.items()
            if kind != "face network's graph" or name in ("onnx", "timm")
        }  # fmt: skip
        names = [name for name in fitting for _ in range(_TURNS.get(name, 1))]
        for number in range(max(1, round(share * count))):
            name = names[number % len(names)]
            cases.append(
                Case(kind, f"mutated{group.suffix}", _made(change, f"{seed}/{kind}/{number}", fitting[name]))
            )
    return cases


def _made(change: Callable[[Random, bytes], bytes], key: str, data: bytes) -> Callable[[], bytes]:
    def made() -> bytes:
        return change(Random(key), data)

    return made


def tallied(group: Group, cases: Sequence[Case]) -> tuple[dict[str, Tally], int]:
    """A tally of each kind, and the bytes that the dearest sound file takes. RuntimeError if one is not accepted."""
    as_they_are = [
        Case("sound", f"mutated{group.suffix}", lambda data=data: data) for data in group.sound.values()
    ]
    room = 0
    for name, seen in zip(group.sound, watched(as_they_are, group.wrong), strict=True):
        if seen.outcome != "accepted":
            raise RuntimeError(f"{name}{group.suffix} as it is: {seen.outcome}: {seen.told}")
        room = max(room, seen.peak)
    tallies: dict[str, Tally] = defaultdict(Tally)
    for number, (case, seen) in enumerate(zip(cases, watched(cases, group.wrong), strict=True)):
        _count(tallies[case.kind], seen, room, f"{case.kind} ({number})")
    return tallies, room


def _count(tally: Tally, seen: Seen, room: int, name: str) -> None:
    over = seen.peak - 2 * seen.size
    tally.files += 1
    tally.peak = max(tally.peak, over)
    if over > room + SLACK:
        tally.other.append(
            f"{name}: took {seen.peak / 2**20:.0f} MiB for a file of {seen.size} bytes; {seen.told}"
        )
    elif seen.outcome == "refused":
        tally.refused += 1
    elif seen.outcome == "accepted":
        tally.accepted += 1
    else:
        tally.other.append(f"{name}: {seen.outcome}: {seen.told}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the files, at least one of each kind")
    parser.add_argument("--only", help="files of one format")
    options = parser.parse_args()
    lines, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        found = groups(Path(folder), exported=options.only in (None, "exported model"))
        for format_, group in found.items():
            if options.only not in (None, format_):
                continue
            tallies, room = tallied(group, cases_of(group, options.seed, options.share))
            for kind, tally in tallies.items():
                lines.append(
                    f"| {format_} | {kind} | {tally.files} | {tally.refused} | {tally.accepted} | {len(tally.other)} | "
                    f"{max(0, tally.peak) / 2**20:.0f} |"
                )  # fmt: skip
                failed = failed or bool(tally.other)
                print(*tally.other, sep="\n", end="\n" if tally.other else "", file=sys.stderr, flush=True)
            lines.append(
                f"| {format_} | as made | {len(group.sound)} | 0 | {len(group.sound)} | 0 | {room / 2**20:.0f} |"
            )
    print("| file | mutation | files | refused in one line | accepted, decides as it says | anything else | most "
          "memory beside twice the file, MiB |\n|---|---|---|---|---|---|---|", *lines, sep="\n")  # fmt: skip
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
