"""`dcal completion`: what a shell needs to complete commands, options and file names."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from twin_dcal.errors import ConfigError

from .common import Parser, run

SHELLS = ("bash", "zsh", "tcsh")
_FILES = {"FILE": "FILE", "NAME|FILE": "FILE", "PATH": "FILE", "ONNX": "FILE", "RUN": "DIRECTORY",
          "DIR": "DIRECTORY", "FACES": "DIRECTORY", "PHOTOS": "DIRECTORY"}  # fmt: skip
"""Metavars whose values are files or folders, by shtab's names for these."""


def parser() -> Parser:
    parser = Parser(
        prog="dcal completion",
        description="Print a script that completes dcal, its commands and their options. It needs the extra "
        "`completion`: pip install 'twin-dcal[completion]'.",
        examples=(
            "dcal completion bash > ~/.local/share/bash-completion/completions/dcal",
            'dcal completion zsh > "${fpath[1]}/_dcal"',
        ),
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or tcsh")
    return parser


def body(arguments: Sequence[str] | None) -> int:
    options = parser().parse_options(arguments)
    try:
        import shtab
    except ImportError:
        raise ConfigError(
            "dcal completion needs a package that is missing (shtab): pip install 'twin-dcal[completion]'"
        ) from None
    print(shtab.complete(_all_commands(), shell=options.shell))
    return 0


def _all_commands() -> argparse.ArgumentParser:
    """One parser with every command below it, as shtab wants it."""
    import shtab

    from .dcal import COMMANDS

    whole = argparse.ArgumentParser(prog="dcal")
    below = whole.add_subparsers()
    for name, told in COMMANDS.items():
        own = import_module(f"twin_dcal.cli.{name}").parser()
        for action in own._actions:
            kind = _FILES.get(str(action.metavar))
            if kind:
                action.complete = getattr(shtab, kind)
        below.add_parser(name, parents=[own], add_help=False, help=told)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
