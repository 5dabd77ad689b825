"""Where commands start: their exit codes hold from here on, while everything else is still being imported.

Importing takes longer than many a command. Ctrl-C at that time, or a package that is broken, must not leave Python's
own exit code 1, which `dcal-verify` has for "different people". So nothing is imported here, nor by the packages around
this module, before Ctrl-C has its handler.
"""

_ROOM = 384 << 20
"""Bytes that every command has asked for by the time it has imported numpy."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _command(name: str) -> "Callable[[], int]":
    def start() -> int:
        # What `signal` is made of, without its enumerations, which take half of this time.
        import _signal  # type: ignore[import-not-found]

        before = _signal.getsignal(_signal.SIGINT)
        _end_at_once_on_interrupts()
        try:
            return run_command(name)
        finally:  # a script may have been started from a notebook, whose process goes on
            if before is not None:
                _signal.signal(_signal.SIGINT, before)

    start.__name__ = start.__qualname__ = name
    return start


def run_command(name: str, arguments: "Sequence[str] | None" = None) -> int:
    """Import a command and run it; without `arguments` on those of the process."""
    try:
        _refuse_without_memory()
    except OSError as error:
        from .exits import told

        return told(error)
    try:
        from importlib import import_module

        main = import_module(f"twin_dcal.cli.{name}").main
    except BaseException as error:
        from .exits import internal

        return internal(error)
    code: int = main(arguments)
    return code


def _refuse_without_memory() -> None:
    """OSError where a memory limit leaves no room to begin. Libraries that find this out while they are imported may
    end the process themselves, OpenBLAS with exit code 1."""
    import mmap

    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        mmap.mmap(-1, _ROOM, **private).close()  # asked for and given back: nothing is written there
    except OSError as error:
        raise OSError(
            f"a limit of memory leaves no {_ROOM >> 20} MB to begin with (ulimit -v, ulimit -d)"
        ) from error


def _end_at_once_on_interrupts() -> None:
    """There is nothing to tidy up yet, and an import that is broken off can raise anything."""
    import _signal
    import os

    def end(number: int, frame: object) -> None:
        try:
            os.write(2, b"interrupted\n")
        finally:
            os._exit(130)

    end.__dict__["of_start"] = True  # so that `exits` may take its place for the command itself
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, end)


ablate = _command("ablate")
dcal = _command("dcal")
evaluate = _command("evaluate")
export = _command("export")
extract = _command("extract")
lookalikes = _command("lookalikes")
prepare = _command("prepare")
search = _command("search")
synth = _command("synth")
train = _command("train")
verify = _command("verify")
demo = verify  # `dcal-demo`, its first name
