"""`dcal-search`: enroll people into a gallery, and look for photographs in it."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from twin_dcal.errors import ConfigError
from twin_dcal.names import one_a_line, printable
from twin_dcal.plural import plural

from .common import Parser, align_option, run
from .exits import tell

if TYPE_CHECKING:
    from twin_dcal.inference.engine import TwinInferenceEngine
    from twin_dcal.inference.gallery import Gallery
    from twin_dcal.inference.result import SearchResult

NUM_LISTED = 5


def parser() -> Parser:
    parser = Parser(
        prog="dcal-search",
        description="Who of the enrolled people is this? Exit code of a search: 0 if the first hit is decided to be "
        "the same person, 1 if not; any other: nothing was decided.",
        examples=(
            "dcal-search --model runs/twins/best_model.pth --gallery people.gallery --enroll FACES",
            "dcal-search --model runs/twins/best_model.pth --gallery people.gallery --photo a.jpg --top 3",
        ),
    )
    option = parser.option
    parser.group("who is enrolled")
    option("model", metavar="FILE", required=True, help="best_model.pth of a run, or an exported .onnx")
    option("gallery", metavar="FILE", required=True, help="people and features, for the owner to read only")
    option(
        "enroll", metavar="PLACE",
        help="make the gallery, or add what is new: a folder of people's folders, or a table person,image",
    )  # fmt: skip
    option("twins", metavar="FILE", help="of --enroll: pairs of people, where not beside the data")
    option("photo", nargs="+", metavar="FILE", help="who is this? One photograph or several of one person")
    option("person", metavar="NAME", help="with --photo: compare with this person alone")
    option("add", metavar="NAME", help="with --photo: enroll them as this person")
    option("remove", metavar="NAME", help="delete a person; with --photo only these photographs")
    option("list", action="store_true", help="who is enrolled, with how many photographs")
    parser.group("the decision")
    option("top", type=int, default=10, metavar="N", help="hits that are shown")
    option("fuse", choices=["quality", "mean", "max", "scores"], default="quality", help="as in dcal-verify")
    option("threshold", type=float, help="decide at this similarity (-1 to 1) instead of the stored one")
    align_option(parser)
    option(
        "exact",
        action="store_true",
        help="compare with everybody, also of 100,000 people and with FAISS installed",
    )
    option("json", action="store_true", help="print the result of a search as JSON")
    option("device", default="auto", help="auto, cpu, cuda, cuda:0")
    return parser


def body(arguments: Sequence[str] | None) -> int:
    options = parser().parse_options(arguments)
    _check(options)
    from twin_dcal.inference.engine import TwinInferenceEngine

    engine = TwinInferenceEngine(options.model, options.device, options.threshold, options.align)
    engine.surface = "command"
    if options.enroll or options.add:
        return _enroll(engine, options)
    gallery = engine.open_gallery(options.gallery)
    if options.list:
        for person, count in gallery.counts().items():
            print(f"{count:6,}  {printable(person)}")
        return 0
    if options.remove:
        gone = gallery.remove(options.remove, options.photo)
        print(f"{plural(gone, 'photograph')} of {printable(options.remove)} deleted; {_counted(gallery)}")
        return 0
    return _look(gallery, options)


def _check(options: argparse.Namespace) -> None:
    """ConfigError for options that do not go together."""
    alone = [name for name in ("enroll", "list") if getattr(options, name)]
    others = [name for name in ("person", "add", "remove") if getattr(options, name)]
    if len(alone) + len(others) > 1 or (alone and options.photo):
        raise ConfigError(
            "give one of --enroll, --list, --remove, and --photo with at most one of --person and --add"
        )
    if not (alone or options.photo or options.remove):
        raise ConfigError("give --photo to search, or one of --enroll, --list, --remove")
    if (options.twins and not options.enroll) or (options.json and (alone or options.add or options.remove)):
        raise ConfigError("--twins goes with --enroll, --json with a search")


def _enroll(engine: "TwinInferenceEngine", options: argparse.Namespace) -> int:
    source = options.enroll or {options.add: options.photo}
    gallery = engine.enroll(source, options.gallery, twins=options.twins, progress=bool(options.enroll))
    _tell_left_out(gallery.left_out)
    added = gallery.added
    told = f"{plural(added.num_added, 'photograph')} added, {added.num_known:,} there already; {_counted(gallery)}"
    print(told if options.add else f"{_counted(gallery)}: {options.gallery}")
    return 0


def _look(gallery: "Gallery", options: argparse.Namespace) -> int:
    if options.person:
        from twin_dcal.verify.wording import photographs_table, told

        decided = gallery.verify(options.photo, options.person, fuse=options.fuse)
        print(
            json.dumps(decided.to_dict(), indent=2) if options.json
            else f"{told(decided)}\n{photographs_table(decided)}"
        )  # fmt: skip
        return 0 if decided.same_person else 1
    found = gallery.search(options.photo, options.top, fuse=options.fuse, exact=options.exact)
    print(json.dumps(found.to_dict(), indent=2) if options.json else _table(found))
    return 0 if found.hits[0].same_person else 1


def _table(found: "SearchResult") -> str:
    lines = [f"{'rank':>4}  {'similarity':>10}  {'score':>5}  {'decision':9}  {'photos':>6}  person"]
    for hit in found.hits:
        score = "–" if hit.verification_score is None else f"{hit.verification_score:.3f}"
        twins = "".join(f"  (twin {name} {alike:+.3f})" for name, alike in hit.twins.items())
        lines.append(
            f"{hit.rank:4}  {hit.similarity:+10.4f}  {score:>5}  {'same' if hit.same_person else 'different':9}  "
            f"{hit.num_photographs:6,}  {hit.person}{twins}"
        )
    if not found.exact:
        enrolled = plural(found.num_people, "person", "people")
        lines.append(f"a shortlist of {enrolled} was compared; --exact compares with everybody")
    lines += [f"warning  {text}" for text in found.warnings]
    return one_a_line(lines)


def _tell_left_out(reasons: Sequence[str]) -> None:
    for reason in reasons[:NUM_LISTED]:
        tell(f"left out: {reason}")
    if len(reasons) > NUM_LISTED:
        tell(f"left out {plural(len(reasons), 'photograph')} in all")


def _counted(gallery: "Gallery") -> str:
    people = plural(len(gallery), "person", "people")
    return f"{people} with {plural(len(gallery.photographs), 'photograph')}"


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
