"""`dcal-lookalikes`: people who look alike, as families for data sets without twins."""

import sys
from collections.abc import Sequence
from pathlib import Path

from twin_dcal.plural import plural

from .common import Parser, run
from .exits import tell


def parser() -> Parser:
    parser = Parser(
        prog="dcal-lookalikes",
        description="Pair people who are mutually nearest, by a matching of largest total cosine, and write them as "
        "twin_pairs_infor.json with a page to review them.",
        examples=(
            "dcal-lookalikes --embeddings features.npz --data_dir FACES --top 200 --output ALIKE",
            "dcal-lookalikes --embeddings arcface.npz --data_dir FACES --max_cosine 0.7 --output ALIKE",
        ),
    )
    option = parser.option
    parser.group("whose images")
    option(
        "embeddings",
        metavar="FILE",
        required=True,
        help=".npz of dcal-extract, dcal-evaluate or another system",
    )
    option(
        "data_dir", metavar="DIR", help="the data set that says whose images these are, if the file does not"
    )
    option("dataset_info", metavar="FILE", help="the same as a dataset_infor.json")
    option("data_root", metavar="DIR", help="where paths in --dataset_info are looked up first")
    option("split", choices=["train", "val", "test", "all"], default="all", help="of the data set")
    parser.group("which pairs")
    option("top", type=int, metavar="N", help="the N pairs most alike; default: all")
    option("neighbours", type=int, default=10, metavar="K", help="each must be among the other's K nearest")
    option("min_cosine", type=float, default=0.0, metavar="C", help="pairs less alike are left out")
    option(
        "max_cosine", type=float, default=1.0, metavar="C", help="from here on two ids are rather one person"
    )
    parser.group("output")
    option("output", metavar="DIR", default=".", help="where the three files go")
    option("overwrite", action="store_true", help="replace a twin_pairs_infor.json that is there")
    return parser


def body(arguments: Sequence[str] | None) -> int:
    options = parser().parse_options(arguments)

    from twin_dcal.evaluation.inputs import DataFiles
    from twin_dcal.locking import locked
    from twin_dcal.lookalikes.matching import Limits
    from twin_dcal.lookalikes.suggest import suggest

    output = Path(options.output)
    with locked(output / ".lookalikes.lock", f"pairing look-alikes into {output}", "--output"):
        done = suggest(
            options.embeddings, output, Limits(options.neighbours, options.min_cosine, options.max_cosine),
            options.top, options.data_dir or options.dataset_info, DataFiles(data_root=options.data_root),
            options.split, options.overwrite,
        )  # fmt: skip
    found = done.found
    print(
        f"{plural(len(found.pairs), 'pair')} of {found.num_people:,} people, cosines {found.pairs[-1].cosine:.3f} to "
        f"{found.pairs[0].cosine:.3f}"
    )
    if found.suspects:
        tell(f"{plural(len(found.suspects), 'pair')} may be one person under two ids; see {done.files[2]}")
    for path in done.files:
        print(path)
    for text in done.warnings:
        tell(f"warning: {text}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
