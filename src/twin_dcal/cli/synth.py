"""`dcal-synth`: draw SynTwins, a data set of generated twin faces whose differences are known."""

import sys
from collections.abc import Sequence

from twin_dcal.errors import ConfigError

from .common import Parser, run

DIFFICULTIES = ("easy", "medium", "hard")


def parser() -> Parser:
    parser = Parser(
        prog="dcal-synth",
        description="Draw faces of twins, photograph them, and write a data set in the standard layout.",
    )
    option = parser.option
    option("output", metavar="DIR", help="where train/, val/, test/ and the JSON files go")
    option("families", type=int, default=200, help="twin pairs, with a few triplets and single people")
    option("images", type=int, default=16, help="photos of each person")
    option("image_size", type=int, default=112, help="pixels a side")
    option("difficulty", choices=DIFFICULTIES, default="medium", help="how little tells twins apart")
    option("seed", type=int, default=0, help="the same seed draws the same pixels")
    option("workers", type=int, default=2, help="processes; they do not change the pixels")
    option("resume", action="store_true", help="go on with a set that was interrupted")
    option("overwrite", action="store_true", help="replace a SynTwins set that is there")
    option("contact_sheet", metavar="FILE", help="draw one picture, people by photos, instead of a set")
    return parser


def body(arguments: Sequence[str] | None) -> int:
    options, dotted = parser().parse(arguments)
    if dotted:
        raise ConfigError(f"dcal-synth has no option --{next(iter(dotted))}; see dcal-synth --help")
    if options.workers < 1:
        raise ConfigError(f"--workers {options.workers} draw nothing; use 1 or more")
    if (options.output is None) == (options.contact_sheet is None):
        raise ConfigError("give --output DIR for a data set, or --contact_sheet FILE for a picture of one")
    if options.resume and options.overwrite:
        raise ConfigError("--resume and --overwrite exclude each other")

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
    try:
        count = generate(
            options.output,
            settings,
            workers=options.workers,
            resume=options.resume,
            overwrite=options.overwrite,
        )
    except KeyboardInterrupt:
        print("interrupted; go on with the same command and --resume", file=sys.stderr)
        return 130
    print(f"{count:,} photos of {settings.families} families, {settings.difficulty}: {options.output}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
