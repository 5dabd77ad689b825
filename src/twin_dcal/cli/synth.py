"""`dcal-synth`: a data set of twins: drawn faces whose differences are known, or edited photographs of real ones."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from twin_dcal.errors import ConfigError
from twin_dcal.plural import plural

from .common import Parser, run
from .exits import tell

if TYPE_CHECKING:
    from twin_dcal.edits.dataset import Settings

DIFFICULTIES = ("easy", "medium", "hard")
RECIPES = ("bumps", "splines")
TARGET_EER = 0.36
Defaults = dict[str, str | float | None]
DRAWN: Defaults = {"families": 200, "images": 16, "image_size": 112}
SHEET: Defaults = {"families": 6, "images": 3, "image_size": 128}
EDITED: Defaults = {
    "strength": None, "recipe": "bumps", "calibrate_with": None, "target_eer": None, "selves": 2, "min_images": 4,
}  # fmt: skip
"""Options of one kind of output alone, with their defaults: a drawn set, a sheet of edited twins, edited twins."""


def parser() -> Parser:
    parser = Parser(
        prog="dcal-synth",
        description="Draw faces of twins and photograph them, or make twins of photographs by editing "
        "(--from_faces), and write a data set in the standard layout.",
        examples=(
            "dcal-synth --output drawn --families 200 --images 16 --difficulty medium",
            "dcal-synth --from_faces FACES --output edited --calibrate_with network.onnx",
        ),
    )
    option = parser.option
    parser.group("every set")
    option("output", metavar="DIR", help="where train/, val/, test/ and the JSON files go")
    option(
        "from_faces", metavar="FACES", help="a data set of aligned faces: make twins of its people by editing"
    )
    option("difficulty", choices=DIFFICULTIES, default="medium", help="how little tells twins apart")
    option("seed", type=int, default=0, help="the same seed makes the same pixels")
    option("workers", type=int, default=2, help="processes; they do not change the pixels")
    option("resume", action="store_true", help="go on with a set that was interrupted")
    option("overwrite", action="store_true", help="replace a set that is there")
    option("contact_sheet", metavar="FILE", help="one picture of people by photos, instead of a set")
    parser.group("drawn sets, and contact sheets (second default)")
    option(
        "families",
        type=int,
        help="twin pairs, with a few triplets and single people (default: 200, 6)",
    )
    option("images", type=int, help="photos of each person (default: 16, 3)")
    option("image_size", type=int, help="pixels a side (default: 112, 128)")
    parser.group("with --from_faces")
    option("strength", type=float, help="how much is edited, instead of a difficulty")
    option("recipe", choices=RECIPES, help="which kinds of edits (default: bumps)")
    option("calibrate_with", metavar="ONNX", help="a face network; finds the strength by its twin EER")
    option(
        "target_eer", type=float, help="what that EER shall be; real twins are at .34 to .38 (default: 0.36)"
    )
    option("selves", type=int, help="edited people made of one person, 2 or 3 (default: 2)")
    option("min_images", type=int, help="photos that each of them has at least (default: 4)")
    return parser


def body(arguments: Sequence[str] | None) -> int:
    options = parser().parse_options(arguments)
    if options.workers < 1:
        raise ConfigError(f"--workers {options.workers} draw nothing; use 1 or more")
    if options.resume and options.overwrite:
        raise ConfigError("--resume and --overwrite exclude each other")
    edits = options.from_faces is not None
    _settle(options, edits)
    try:
        return _edit(options) if edits else _draw(options)
    except KeyboardInterrupt:
        tell("interrupted; go on with the same command and --resume")
        return 130


def _settle(options: Namespace, edits: bool) -> None:
    """Defaults for the options of this kind of output; ConfigError for one of another kind."""
    if (options.output is None) == (options.contact_sheet is None):
        raise ConfigError("give --output DIR for a data set, or --contact_sheet FILE for a picture of one")
    own = DRAWN if not edits else EDITED if options.contact_sheet is None else EDITED | SHEET
    for name in [*DRAWN, *EDITED]:
        if name not in own and getattr(options, name) is not None:
            where = "with --from_faces" if name in EDITED else "without --from_faces, or with --contact_sheet"
            raise ConfigError(f"--{name} goes {where}; leave it out")
        if name in own and getattr(options, name) is None:
            setattr(options, name, own[name])


def _edit(options: Namespace) -> int:
    from twin_dcal.edits.dataset import generate

    settings = _edit_settings(options)
    if options.contact_sheet is not None:
        from twin_dcal.edits.sheet import write_contact_sheet

        written = write_contact_sheet(
            options.contact_sheet, options.from_faces, settings, people=options.families, photos=options.images,
            side=options.image_size,
        )  # fmt: skip
        print(f"contact sheet: {written}")
        return 0
    made = generate(
        options.from_faces,
        options.output,
        settings,
        workers=options.workers,
        resume=options.resume,
        overwrite=options.overwrite,
    )
    left_out = ", ".join(f"{count} {reason}" for reason, count in made["left_out"].items()) or "none"
    print(
        f"{plural(made['photos'], 'photo')} of {made['people']:,} edited people in "
        f"{plural(made['twin_pairs'], 'twin pair')}, "
        f"strength {settings.strength:g}: {options.output}\nphotos left out: {left_out}"
    )
    return 0


def _edit_settings(options: Namespace) -> "Settings":
    """From the options, with the strength measured if a network is given."""
    if options.strength is not None and options.calibrate_with is not None:
        raise ConfigError("--strength sets what --calibrate_with would find; give one of them")
    if options.target_eer is not None and options.calibrate_with is None:
        raise ConfigError("--target_eer needs a network to measure with: give --calibrate_with NETWORK.onnx")

    from twin_dcal.edits.dataset import STRENGTHS, Settings

    strength = STRENGTHS[options.difficulty] if options.strength is None else options.strength
    settings = Settings(
        strength=strength, recipe=options.recipe, selves=options.selves, min_images=options.min_images,
        seed=options.seed,
    )  # fmt: skip
    if options.calibrate_with is None:
        return settings

    from twin_dcal.edits.calibrate import NEAR, calibrated

    target = TARGET_EER if options.target_eer is None else options.target_eer
    settings = calibrated(options.from_faces, options.calibrate_with, settings, target, options.output)
    told = settings.calibration or {}
    print(
        f"strength {settings.strength:g}: twin EER {told['achieved_eer']:.3f} of {told['network']} over "
        f"{plural(told['people'], 'person', 'people')} of train"
    )
    if abs(told["achieved_eer"] - target) > NEAR:
        print(
            f"no strength that was tried is within {NEAR:g} of {target:g}: more people of train find it finer"
        )
    return settings


def _draw(options: Namespace) -> int:
    from twin_dcal.synth.generate import Settings, generate
    from twin_dcal.synth.sheet import write_contact_sheet

    settings = Settings(
        families=options.families,
        images=options.images,
        image_size=options.image_size,
        difficulty=options.difficulty,
        seed=options.seed,
    )
    if options.contact_sheet is not None:
        print(f"contact sheet: {write_contact_sheet(options.contact_sheet, settings)}")
        return 0
    count = generate(
        options.output, settings, workers=options.workers, resume=options.resume, overwrite=options.overwrite
    )
    print(
        f"{plural(count, 'photo')} of {settings.families} families, {settings.difficulty}: {options.output}"
    )
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
