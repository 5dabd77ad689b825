"""What every command shares: options in both spellings, `--section.key value`, exit codes, logging."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from twin_dcal._version import __version__
from twin_dcal.config_text import parse_dotted
from twin_dcal.environment import ignore_wrong_backend
from twin_dcal.errors import ConfigError
from twin_dcal.files import owner_only
from twin_dcal.privacy import set_privacy_defaults
from twin_dcal.spelling import nearest_argument

from .exits import Answered, ended


class Parser(argparse.ArgumentParser):
    """Accepts `--data_dir` and `--data-dir` alike, and leaves `--section.key value` pairs for the configuration.

    Args: keys: gives the keys that a command takes in this way; None for a command that takes none.
    """

    def __init__(self, *, keys: Callable[[], Iterable[str]] | None = None, **options: Any) -> None:
        super().__init__(
            **options, allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        self._keys = keys
        self.add_argument("--version", action="version", version=f"%(prog)s {__version__}")

    def option(self, name: str, **settings: Any) -> None:
        """Add `--name`, written with underscores, and its spelling with dashes."""
        names = [f"--{name}"]
        if "_" in name:
            names.append(f"--{name.replace('_', '-')}")
        self.add_argument(*names, **{"dest": name, **settings})

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

    def parse(self, arguments: Sequence[str] | None) -> tuple[argparse.Namespace, dict[str, Any]]:
        """Options, and dotted overrides from whatever is not an option. ConfigError for anything else, with the nearest
        of this command's own options and keys."""
        known, rest = self.parse_known_args(arguments)
        own = [name for action in self._actions for name in action.option_strings]
        dotted = parse_dotted(rest, own, () if self._keys is None else self._keys())
        if dotted and self._keys is None:
            wrong = next(iter(dotted))
            raise ConfigError(
                f"{self.prog} has no option --{wrong}{nearest_argument(wrong, own)}; see {self.prog} --help"
            )
        return known, dotted

    def parse_options(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """Options of a command that takes no keys. ConfigError for anything else."""
        return self.parse(arguments)[0]


def align_option(parser: Parser, default: str = "auto") -> None:
    parser.option(
        "align", choices=["auto", "always", "never"], default=default,
        help="faces of photographs are found and aligned, crops left alone (auto); every picture is aligned (always); "
        "both refuse a picture without a face; the central square of every picture is taken (never)",
    )  # fmt: skip


def launch_options(parser: Parser) -> None:
    """Options of a command that several processes can share."""
    option = parser.option
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
    ignore_wrong_backend()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names that are no UTF-8, as `names` writes them
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("matplotlib").setLevel(
        logging.ERROR
    )  # it warns where its cache cannot lie in the home folder
    # Of several processes only the first tells what all do.
    logging.getLogger("twin_dcal").setLevel(
        logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR
    )
    with owner_only():
        return main(arguments) or 0
