"""`dcal-verify`: decide on two pictures, on a folder, at a prompt, or on a local page; also called `dcal-demo`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twin_dcal.errors import ConfigError, ImageError
from twin_dcal.plural import plural
from twin_dcal.verify.faces import face_choices
from twin_dcal.web import LOOPBACK, PORT

from .common import HIDDEN, Parser, align_option, run
from .exits import INTERRUPTED, end_at_once, leave_at_once
from .quick_imports import import_torch_backend

if TYPE_CHECKING:
    from twin_dcal.inference.engine import TwinInferenceEngine
    from twin_dcal.inference.result import VerificationResult
    from twin_dcal.verify.session import Session

TOKEN_VARIABLE = "TWIN_DCAL_TOKEN"
NAMES = ("dcal-verify", "dcal-demo")
QUICKSTART = Path("runs/quickstart/best_model.pth")


def parser() -> Parser:
    called = Path(sys.argv[0]).stem
    parser = Parser(
        prog=called if called in NAMES else NAMES[0],
        description="Do two pictures show one person? Exit code 0: same person, 1: different people, "
        "any other: not decided.",
        examples=(
            "dcal-verify --model runs/twins/best_model.pth --img1 a.jpg --img2 b.jpg",
            "dcal-verify --model runs/twins/best_model.pth --web",
        ),
    )
    option = parser.option
    parser.group("what is compared")
    option("model", metavar="FILE", help="best_model.pth of a run, or an exported .onnx")
    option("img1", nargs="+", metavar="FILE", help="one picture, several of one person, or a video")
    option("img2", nargs="+", metavar="FILE", help="the other, likewise")
    option(
        "fuse", choices=["quality", "mean", "max", "scores"], default="quality",
        help="how several are taken together: mean features, weighted by the quality of the faces or not; the highest "
        "score of two pictures; the mean of all scores",
    )  # fmt: skip
    option(
        "pairs", metavar="FILE", help="all pairs of a table (.csv, .tsv, .parquet) with columns img1, img2"
    )
    option("output", metavar="FILE", help="of --pairs: results as .csv, .jsonl or .parquet")
    option("demo_folder", metavar="DIR", help="all pairs of a folder instead")
    option(
        "interactive",
        action="store_true",
        help="a prompt: verify a b, folder p, threshold v, face w, help, quit",
    )
    option("web", action="store_true", help="a page on this machine, in the browser")
    parser.group("the page")
    option("host", metavar="ADDRESS", default=LOOPBACK, help="of --web; another one needs --token")
    option("port", type=int, default=PORT, help="of --web")
    option(
        "token",
        metavar="SECRET",
        help=f"what visitors of --web must know; or {TOKEN_VARIABLE}, which ps does not show",
    )
    parser.group("the decision")
    option(
        "threshold", type=float, help="decide at this similarity (-1 to 1) instead of the stored threshold"
    )
    option(
        "threshold_probability", type=float, metavar="P",
        help="decide at the similarity with this verification_score (0 to 1)",
    )  # fmt: skip
    align_option(parser)
    option(
        "face", nargs="+", metavar="WHICH", default=["largest"],
        help="of a picture with several faces: largest, or a number from the left (1 the first); two values are for "
        "the first and the second picture",
    )  # fmt: skip
    parser.group("output")
    option("show_attention", action="store_true", help="draw where the model looked")
    option("json", action="store_true", help="print the result as JSON")
    option("output_dir", metavar="DIR", default="results/demo", help="pictures and results go here")
    option("save_results", action="store_true", help="write results as JSON too")
    option("device", default="auto", help="auto, cpu, cuda, cuda:0")
    option("config", metavar="NAME|FILE", help=HIDDEN)
    return parser


def body(arguments: Sequence[str] | None) -> int:
    options = parser().parse_options(arguments)
    _check(options)
    model = options.model or _offered_model()
    from twin_dcal.inference.engine import TwinInferenceEngine
    from twin_dcal.verify.session import Session

    if Path(model).suffix.lower() != ".onnx":
        import_torch_backend()
    engine = TwinInferenceEngine(
        model, options.device, options.threshold, options.align,
        threshold_probability=options.threshold_probability,
    )  # fmt: skip
    engine.surface = "prompt" if options.interactive else "command"
    if options.web:
        return _serve(engine, options)
    if options.pairs:
        return _table(engine, options)
    session = Session(
        engine, Path(options.output_dir), attention=options.show_attention, save_results=options.save_results,
        faces=face_choices(options.face, "--face"),
    )  # fmt: skip
    if options.interactive:
        return _prompt(session)
    if options.demo_folder:
        print(session.folder(options.demo_folder))
        return 0
    return _pair(session, options)


def _check(options: argparse.Namespace) -> None:
    """ConfigError for options that do not go together."""
    given = [
        bool(options.img1 or options.img2), bool(options.demo_folder), options.interactive, options.web,
        bool(options.pairs),
    ]  # fmt: skip
    if sum(given) != 1:
        raise ConfigError("give one of --img1 with --img2, --pairs, --demo_folder, --interactive and --web")
    if bool(options.pairs) != bool(options.output):
        raise ConfigError("--pairs and --output go together")
    if given[0] and not (options.img1 and options.img2):
        raise ConfigError("--img1 and --img2 go together")
    if options.face != ["largest"] and options.web:
        raise ConfigError("--face is not for --web; on the page faces are clicked")
    if options.show_attention and given[0] and len(options.img1 + options.img2) > 2:
        raise ConfigError("--show_attention explains two pictures; give one each")
    face_choices(options.face, "--face")
    if options.json and not given[0]:
        raise ConfigError("--json goes with --img1 and --img2; --save_results writes JSON of a folder")


def _offered_model() -> Path:
    """The quickstart's model, if there is one and the user wants it. ConfigError otherwise."""
    if not QUICKSTART.is_file():
        raise ConfigError("give --model FILE; `make quickstart` trains one on drawn faces")
    if sys.stdin.isatty():
        print(
            f"No --model given. Use {QUICKSTART}, trained on drawn faces? [Y/n] ",
            end="",
            file=sys.stderr,
            flush=True,
        )
        if sys.stdin.readline().strip().lower() in ("", "y", "yes"):
            return QUICKSTART
    raise ConfigError(f"give --model FILE; the quickstart's is --model {QUICKSTART}")


def _pair(session: "Session", options: argparse.Namespace) -> int:
    one, two = options.img1, options.img2
    result: VerificationResult
    if len(one) == len(two) == 1:
        given = {"img1_path": one[0], "img2_path": two[0]}
        result, in_words = session.told_pair(one[0], two[0], options.fuse)
    else:
        given = {}
        result, in_words = session.told_people(one, two, options.fuse)
    if options.json:
        print(json.dumps({**given, **result.to_dict()}, indent=2))
    else:
        print(in_words)
    return 0 if result.verification_decision else 1


def _table(engine: "TwinInferenceEngine", options: argparse.Namespace) -> int:
    """Decide on a table's pairs; ImageError, with the results written, where none of them could be compared."""
    results = engine.verify_table(
        options.pairs, options.output, faces=face_choices(options.face, "--face"), progress=True
    )
    decided = [each for each in results if each["error"] is None]
    if not decided:
        raise ImageError(f"no pair can be compared; first: {results[0]['error']}; all: {options.output}")
    same = sum(each["same_person"] for each in decided)
    told = f"{same} the same person, {len(decided) - same} different people"
    print(
        f"{plural(len(results), 'pair')}: {told}, {len(results) - len(decided)} not compared\n{options.output}"
    )
    return 0


def _prompt(session: "Session") -> int:
    print(f"{session.told_threshold()}\n'help' lists what can be asked")
    while True:
        try:
            answer = session.answer(input("Demo> "))
        except EOFError:
            print()
            return 0
        if answer is None:
            return 0
        if answer:
            print(answer)


def _serve(engine: "TwinInferenceEngine", options: argparse.Namespace) -> int:
    from twin_dcal.web.server import serve

    try:
        from twin_dcal.web.explaining import explanations
    except ImportError as error:
        raise ConfigError(
            f"--web needs packages that are missing ({error.name}): pip install 'twin-dcal[web]'"
        ) from None
    token = options.token or os.environ.get(TOKEN_VARIABLE) or None
    serve(engine, options.host, options.port, token, explains=explanations(engine), late=leave_at_once)
    # Only Ctrl-C ends the page. Python's own end takes seconds on a busy machine, and a pair may still be judged.
    if "ipykernel" not in sys.modules:  # a notebook's process goes on
        end_at_once(INTERRUPTED)
    return INTERRUPTED


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
