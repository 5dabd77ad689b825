"""Edited twins: how they hold under worse photographs, whether they look real, and how fast they are made.

    python benchmarks/edited_twins.py robustness --model best_model.pth [--model …] --edited EDITED
    python benchmarks/edited_twins.py realism --faces FACES [--strength 0.84]
    python benchmarks/edited_twins.py blind --faces FACES --output DIR [--strength 0.84]
    python benchmarks/edited_twins.py speed --faces FACES

robustness: both photographs of every test pair are made worse in the same way; EER with 95 % intervals that leave out
families, and the errors at the threshold that is stored with the model. realism: a small network learns to tell edited
photographs of training people from others, and is asked about test people. blind: a sheet to try that by eye. speed:
photographs a second of one core, by CPU time.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

from twin_dcal.edits.dataset import Settings, detector, read_people, write_person
from twin_dcal.edits.folder import note_of
from twin_dcal.edits.looking import Seen, look
from twin_dcal.edits.recipes import RECIPES, edited
from twin_dcal.edits.truth import Shot, read_truth
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.metrics.averaging import jackknife
from twin_dcal.metrics.confidence import plain_interval
from twin_dcal.metrics.error_rates import auc, error_rates_at, sort_scores
from twin_dcal.metrics.pair_stream import AllPairs, count_pairs

Pixels = NDArray[np.uint8]
SMALL = 96
"""Side of the photographs that the classifier of `realism` sees."""


# Robustness


def resolution(side: int) -> Callable[[Pixels], Pixels]:
    def worse(pixels: Pixels) -> Pixels:
        small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC)

    return worse


def jpeg(quality: int) -> Callable[[Pixels], Pixels]:
    def worse(pixels: Pixels) -> Pixels:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return worse


def blur(share: float) -> Callable[[Pixels], Pixels]:
    """A Gaussian with a standard deviation of `share` of the side."""
    return lambda pixels: cv2.GaussianBlur(pixels, (0, 0), share * len(pixels))


def light(gamma: float) -> Callable[[Pixels], Pixels]:
    table = (255 * (np.arange(256) / 255) ** gamma).round().astype(np.uint8)
    return lambda pixels: table[pixels]


def from_one_side(share: float) -> Callable[[Pixels], Pixels]:
    """Light that falls by `share` from the left edge to the right one."""

    def worse(pixels: Pixels) -> Pixels:
        falling = 1 - share * np.linspace(0, 1, pixels.shape[1])[None, :, None]
        return (pixels * falling).round().astype(np.uint8)

    return worse


CONDITIONS: dict[str, Callable[[Pixels], Pixels]] = {
    "as they are": lambda pixels: pixels,
    **{f"{side} px across the crop": resolution(side) for side in (112, 64, 48, 32)},
    **{f"JPEG quality {quality}": jpeg(quality) for quality in (50, 20, 10)},
    **{f"blur, {share:.1%} of the side": blur(share) for share in (0.005, 0.01, 0.02)},
    "dark (gamma 2)": light(2.0),
    "bright (gamma 0.5)": light(0.5),
    "light from one side": from_one_side(0.8),
}
POSES = {
    "turned by less than 10 degrees": (0, 10),
    "10 to 20 degrees": (10, 20),
    "20 to 40 degrees": (20, 41),
}


def robustness(options: argparse.Namespace) -> None:
    truth = read_truth(options.edited)
    shots = [shot for shot in truth.shots if shot.path.startswith("test/")]
    print(
        "| model, photographs | twin EER % | twin AUC | unrelated EER % | twin FMR, FNMR at its threshold |"
    )
    print("|---|---|---|---|---|")
    for path in options.model:
        engine = TwinInferenceEngine(path, align="never")
        kept: NDArray[np.float32] | None = None
        for name, worse in CONDITIONS.items():
            pixels = (
                engine.prepare(Image.fromarray(worse(read(truth.folder / shot.path)))) for shot in shots
            )
            features = embedded(engine, pixels)
            kept = features if kept is None else kept
            print(row(engine, name, features, shots), flush=True)
        assert kept is not None
        for name, (low, high) in POSES.items():
            chosen = [at for at, shot in enumerate(shots) if low <= abs(shot.yaw) < high]
            print(row(engine, name, kept[chosen], [shots[at] for at in chosen]), flush=True)


def read(path: Path) -> Pixels:
    return np.asarray(Image.open(path).convert("RGB"))


def embedded(engine: TwinInferenceEngine, pixels: Iterator[Pixels]) -> NDArray[np.float32]:
    rows, waiting = [], []
    for one in pixels:
        waiting.append(one)
        if len(waiting) == 16:
            rows.append(engine.backend.embed(np.stack(waiting)))
            waiting = []
    if waiting:
        rows.append(engine.backend.embed(np.stack(waiting)))
    return np.concatenate(rows)


def row(engine: TwinInferenceEngine, name: str, features: NDArray[np.float32], shots: Sequence[Shot]) -> str:
    # The twins are the selves of one person; look-alikes of the source are strangers here, as in the set's description.
    people, families = zip(*((shot.person, shot.source_person) for shot in shots), strict=True)
    source = AllPairs(features, people, families, engine.source.fusion)
    counts, found = count_pairs(source), jackknife(source)
    twins = counts.section("twin")
    at = error_rates_at(twins, engine.threshold)
    cells = []
    for section in ("twin", "unrelated"):
        value, without = found.exact[section, "eer"], found.left_out[section, "eer"]
        ends = plain_interval(value, without, num_units=found.num_units[section], level=0.95)
        cells.append(f"{100 * value:.1f} [{100 * max(ends.low, 0):.1f}, {100 * ends.high:.1f}]")
    title = f"{Path(engine.source.path).parent.parent.name}: {name} ({len(shots)} photographs)"
    return f"| {title} | {cells[0]} | {auc(twins):.3f} | {cells[1]} | {at.fmr:.1%}, {at.fnmr:.1%} |"


# Realism


def photographs(options: argparse.Namespace, split: str) -> Iterator[tuple[str, Seen, Pixels]]:
    """Source person, photograph, and it again as one of the person's selves."""
    settings = Settings(strength=options.strength, recipe=options.recipe, seed=options.seed)
    for person in read_people(options.faces, options.seed):
        if person.split == split:
            for path in person.paths[: options.photos]:
                seen = look(path, detector(), settings.limits)
                if isinstance(seen, Seen):
                    edit = settings.edit(person.name, 0)
                    yield person.name, seen, edited(settings.recipe, seen.pixels, seen.camera, edit)


def as_seen(pixels: Pixels) -> Pixels:
    """Small, and compressed alike, edited or not."""
    return jpeg(95)(cv2.resize(jpeg(95)(pixels), (SMALL, SMALL), interpolation=cv2.INTER_AREA))


def labelled(options: argparse.Namespace, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Photographs (N, 3, S, S) and whether each was edited (N,); every photograph is there both ways."""
    pairs = [(as_seen(seen.pixels), as_seen(after)) for _, seen, after in photographs(options, split)]
    pixels = torch.from_numpy(np.stack([one for pair in pairs for one in pair])).permute(0, 3, 1, 2)
    return pixels.float() / 127.5 - 1, torch.tensor([0.0, 1.0]).repeat(len(pairs))


def realism(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    train, test = labelled(options, "train"), labelled(options, "test")
    widths = (3, 24, 32, 48, 64)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=options.steps)
    for _ in range(options.steps):
        photos = 2 * torch.randint(len(train[1]) // 2, (32,))
        chosen = torch.cat(
            [photos, photos + 1]
        )  # each both ways, so that nothing but the edit tells them apart
        images = train[0][chosen]
        images = images.flip(3) if torch.rand(()) < 0.5 else images
        loss = functional.binary_cross_entropy_with_logits(network(images)[:, 0], train[1][chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    print(f"{options.recipe}, strength {options.strength}: {options.steps} steps of 64 at {SMALL} px")
    for name, (images, labels) in (("training", train), ("test", test)):
        with torch.no_grad():
            scores = torch.cat([network(part)[:, 0] for part in images.split(64)]).numpy()
        is_edited = labels.numpy() == 1
        found = auc(sort_scores(scores[is_edited], scores[~is_edited]))
        right = float(((scores > 0) == is_edited).mean())
        print(f"{len(labels)} photographs of {name} people: AUC {found:.3f}, right about {right:.1%}")


def blind(options: argparse.Namespace) -> None:
    rng = np.random.default_rng(options.seed)
    options.photos = 1
    found = list(photographs(options, "test"))
    chosen = rng.permutation(len(found))[:48].tolist()
    answers = rng.permutation(np.arange(len(chosen)) % 2 == 0).tolist()
    cells = [
        np.asarray(Image.fromarray(found[at][2] if is_edited else found[at][1].pixels).resize((224, 224)))
        for at, is_edited in zip(chosen, answers, strict=True)
    ]
    cells += [np.full((224, 224, 3), 255, np.uint8)] * (-len(cells) % 8)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [np.concatenate(cells[start : start + 8], axis=1) for start in range(0, len(cells), 8)]
    Image.fromarray(np.concatenate(rows)).save(folder / "blind.png")
    (folder / "answers.json").write_text(
        json.dumps(["edited" if answer else "as it is" for answer in answers])
    )
    print(
        f"{folder / 'blind.png'}: {len(chosen)} photographs in rows of 8; answers.json says which were edited"
    )


# Speed


def speed(options: argparse.Namespace) -> None:
    cv2.setNumThreads(1)
    people = [person for person in read_people(options.faces, 0) if len(person.paths) >= 8][:30]
    for person in people:
        for path in person.paths:
            look(path, detector(), Settings().limits)  # warm up: detector and files
    for recipe in RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            note_of(Path(folder), 0).parent.mkdir(parents=True)
            began = time.process_time()
            for number, person in enumerate(people):
                write_person(Path(folder), Settings(recipe=recipe), Path(options.faces), number, person)
            spent = time.process_time() - began
            written = len(list(Path(folder).rglob("*.jpg")))
        print(f"{recipe}: {written / spent:.0f} photographs a second, found, edited, with maps and files")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, work in (("robustness", robustness), ("realism", realism), ("blind", blind), ("speed", speed)):
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        if name == "robustness":
            command.add_argument("--model", action="append", required=True, metavar="FILE")
            command.add_argument("--edited", required=True, metavar="DIR")
            continue
        command.add_argument("--faces", required=True, metavar="DIR")
        command.add_argument("--recipe", choices=tuple(RECIPES), default="bumps")
        command.add_argument("--strength", type=float, default=0.8446)
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--photos", type=int, default=20, help="of each person at most")
        command.add_argument("--steps", type=int, default=1200)
        if name == "blind":
            command.add_argument("--output", required=True, metavar="DIR")
    options: Any = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    main()
