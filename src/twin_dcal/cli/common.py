"""What every command shares: options in both spellings, `--section.key value`, exit codes, logging."""

import argparse
import copy
import logging
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from twin_dcal._version import __version__
from twin_dcal.config_text import parse_dotted
from twin_dcal.environment import ignore_wrong_backend, ignore_wrong_epoch, refuse_unreadable
from twin_dcal.errors import ConfigError
from twin_dcal.files import owner_only
from twin_dcal.names import printable
from twin_dcal.privacy import set_privacy_defaults
from twin_dcal.spelling import nearest_argument

from .exits import Answered, ended

HIDDEN = argparse.SUPPRESS
"""Help of an option that is taken for the sake of older scripts."""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """One spelling of each option, and defaults that say something."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        shown = copy.copy(action)
        shown.option_strings = [name for name in action.option_strings if "-" not in name.lstrip("-")]
        return super()._format_action_invocation(shown)

    def _get_help_string(self, action: argparse.Action) -> str:
        told, default = action.help or "", action.default
        if default is None or default is False or default is argparse.SUPPRESS or not action.option_strings:
            return told
        written = " ".join(map(str, default)) if isinstance(default, list | tuple) else default
        return f"{told} (default: {written})".replace("%", "%%") if "default" not in told else told


class Parser(argparse.ArgumentParser):
    """Accepts `--data_dir` and `--data-dir` alike, and leaves `--section.key value` pairs for the configuration.

    Args: prog: the name of a command, `dcal-train`; it is told as it was called, `dcal train` too. examples: lines that
    end the help. keys: gives the keys that a command takes as `--section.key`; None for a command that takes none.
    """

    def __init__(
        self, *, prog: str, description: str, examples: Sequence[str] = (), epilog: str = "",
        keys: Callable[[], Iterable[str]] | None = None,
    ) -> None:  # fmt: skip
        by_one_entry = Path(sys.argv[0]).stem == "dcal"
        told = [textwrap.fill(epilog, 100)] if epilog else []
        told += ["\n".join(["examples:", *(f"  {line}" for line in examples)])] if examples else []
        super().__init__(
            prog=prog.replace("-", " ", 1) if by_one_entry else prog,
            description=textwrap.fill(description, 100), epilog="\n\n".join(told), allow_abbrev=False,
            formatter_class=_HelpFormatter,
        )  # fmt: skip
        self.examples = tuple(examples)
        self._keys = keys
        self._group: argparse._ArgumentGroup | None = None
        self.add_argument("--version", action="version", version=f"%(prog)s {__version__}")

    def group(self, title: str) -> None:
        """Options that follow are listed under this title."""
        self._group = self.add_argument_group(title)

    def option(self, name: str, **settings: Any) -> None:
        """Add `--name`, written with underscores, and its spelling with dashes."""
        names = [f"--{name}"]
        if "_" in name:
            names.append(f"--{name.replace('_', '-')}")
        kind = settings.get("type")
        metavar = {"metavar": "N" if kind is int else "X"} if kind in (int, float) else {}
        (self._group or self).add_argument(*names, **{"dest": name, **metavar, **settings})

    def format_help(self) -> str:
        self._shorten_usage()
        return super().format_help()

    def format_usage(self) -> str:
        self._shorten_usage()
        return super().format_usage()

    def _shorten_usage(self) -> None:
        """Name what must be given; dozens of options in brackets are read by nobody."""
        needed = [action for action in self._actions if action.required]
        texts = [" ".join([*action.option_strings[:1], str(action.metavar)]) for action in needed]
        texts += ["[options]"] + (["[--section.key VALUE]"] if self._keys else [])
        self.usage = " ".join([self.prog.replace("%", "%%"), *texts])

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """What --help and wrong options end with."""
        try:
            super().exit(status, message)
        except SystemExit as end:
            raise Answered(end.code) from None

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse's own passes over a full disk."""
        file = file or sys.stderr
        if message and file is not None:
            file.write(message)

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))

    def parse(self, arguments: Sequence[str] | None) -> tuple[argparse.Namespace, dict[str, Any]]:
        """Options, and dotted overrides from whatever is not an option. ConfigError for anything else, with the nearest
        of this command's own options and keys."""
        known, rest = self.parse_known_args(arguments)
        self._refuse_unset(known)
        own = [name for action in self._actions for name in action.option_strings]
        dotted = parse_dotted(rest, own, () if self._keys is None else self._keys())
        if dotted and self._keys is None:
            wrong = next(iter(dotted))
            raise ConfigError(
                f"{self.prog} has no option --{wrong}{nearest_argument(wrong, own)}; see {self.prog} --help"
            )
        return known, dotted

    def _refuse_unset(self, known: argparse.Namespace) -> None:
        """An empty value is a script's variable that was not set: taken for an option that was left out, `--person ""`
        would search all people, and `--token ""` leave a page open to everybody. NaN is no number that anything was
        meant by: every comparison with it is false, and a check would be switched off in silence."""
        for action in self._actions:
            given = getattr(known, action.dest, None)
            for value in given if isinstance(given, list) else [given]:
                name = action.option_strings[0] if action.option_strings else str(action.metavar)
                if value == "":
                    raise ConfigError(f"{name}: an empty value; give one, or leave the option out")
                if isinstance(value, float) and math.isnan(value):
                    raise ConfigError(f"{name} nan: not a number; give one, or leave the option out")

    def parse_options(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """Options of a command that takes no keys. ConfigError for anything else."""
        return self.parse(arguments)[0]


class _Printable(logging.Formatter):
    """Messages in which names and texts of files are one line each, and nothing is there that a terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        shown = copy.copy(record)
        if record.name.startswith("twin_dcal") and isinstance(record.args, tuple):
            shown.args = tuple(
                printable(arg) if isinstance(arg, str | Path | BaseException) else arg for arg in record.args
            )
        return printable(super().format(shown), "\n\t")


def align_option(parser: Parser, default: str = "auto") -> None:
    parser.option(
        "align", choices=["auto", "always", "never"], default=default,
        help="faces of photographs are found and aligned, crops left alone (auto); every picture is aligned (always); "
        "both refuse a picture without a face; the central square of every picture is taken (never)",
    )  # fmt: skip


def launch_options(parser: Parser) -> None:
    """Options of a command that several processes can share."""
    option = parser.option
    parser.group("several processes")
    option("distributed", action="store_true", help="as one of a launcher's processes (torchrun)")
    option("local_rank", type=int, metavar="N", help="given by torch.distributed.launch")
    option("world_size", type=int, metavar="N", help="number of processes, where no launcher says it")
    option("master_addr", metavar="HOST", help="where rank 0 is, where no launcher says it")
    option("master_port", type=int, metavar="PORT", help="where rank 0 listens, where no launcher says it")


def check_launch(options: argparse.Namespace) -> None:
    """ConfigError for --distributed or a rank without a launcher."""
    names = ("local_rank", "world_size", "master_addr", "master_port")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.distributed or given:
        from twin_dcal.distributed import require_launch

        require_launch(**given)


def overrides_from(options: argparse.Namespace, keys: Mapping[str, str]) -> dict[str, Any]:
    """Configuration keys for the options that were given: ``{"data_dir": "data.data_dir", …}``."""
    given = {key: getattr(options, option) for option, key in keys.items()}
    return {key: value for key, value in given.items() if value is not None}


def run(main: Callable[[Sequence[str] | None], int | None], arguments: Sequence[str] | None = None) -> int:
    """Call a command's body; whatever happens in it has its exit code (docs/commands.md)."""
    return ended(lambda: _body(main, arguments))


def _body(main: Callable[[Sequence[str] | None], int | None], arguments: Sequence[str] | None) -> int:
    set_privacy_defaults()
    refuse_unreadable()
    ignore_wrong_backend()
    ignore_wrong_epoch()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names that are no UTF-8, as `names` writes them
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(_Printable("%(message)s"))
    logging.basicConfig(handlers=[lines])
    logging.getLogger("matplotlib").setLevel(
        logging.ERROR
    )  # it warns where its cache cannot lie in the home folder
    # Of several processes only the first tells what all do.
    logging.getLogger("twin_dcal").setLevel(
        logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR
    )
    with owner_only():
        return main(arguments) or 0
