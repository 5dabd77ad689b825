"""`dcal`: all commands under one name. `dcal train …` is `dcal-train …`, with the same options and exit codes."""

import sys
from collections.abc import Mapping, Sequence

from twin_dcal._version import __version__
from twin_dcal.errors import ConfigError
from twin_dcal.spelling import nearest

from .common import run
from .start import run_command

COMMANDS: Mapping[str, str] = {
    "prepare": "photographs to aligned face crops",
    "train": "a model from face crops",
    "evaluate": "error rates with intervals, a report, comparisons",
    "verify": "decide on two pictures, a folder, or on a local page",
    "extract": "features of many pictures",
    "export": "a model as one ONNX file",
    "ablate": "train variants with several seeds and compare them",
    "synth": "draw twins, or make twins of photographs",
    "lookalikes": "pair people who look alike",
    "search": "who of the enrolled people is this?",
    "completion": "complete commands and options with the Tab key of a shell",
}
"""Commands and what each is for, in the order in which they are mostly used."""


def body(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else "--help"
    if name in ("-h", "--help"):
        print(_help())
    elif name == "--version":
        print(f"dcal {__version__}")
    else:
        raise ConfigError(f"dcal has no command '{name}'{nearest(name, COMMANDS)}; see dcal --help")
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join([
        "usage: dcal COMMAND [options]", "", "Tell apart faces that look alike.", "",
        *(f"  {name:<{width}}  {told}" for name, told in COMMANDS.items()), "",
        "dcal COMMAND --help lists a command's options. Each is a command of its own, too: dcal-train.", "",
        "examples:",
        "  dcal train --config single_gpu --data_dir FACES --output_dir runs/twins",
        "  dcal verify --model runs/twins/best_model.pth --img1 a.jpg --img2 b.jpg",
    ])  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        return run_command(given[0], given[1:])
    return run(body, given)


if __name__ == "__main__":
    sys.exit(main())
