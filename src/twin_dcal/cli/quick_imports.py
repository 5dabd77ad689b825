"""Imports that a decision does not need, left out while torch's libraries load.

timm and torchvision import torch's compiler to mark a few functions for it, and timm imports wandb for a summary and
the hub's library for downloads that nobody asks for: 2 of the 6 CPU seconds that `dcal-verify` took with a checkpoint.
Only that command does this, in a process of its own where nothing is compiled or downloaded; whoever imports
`twin_dcal` gets these libraries as they are.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
_LEFT_OUT = (_COMPILER, f"{_COMPILER}.utils", "wandb", "huggingface_hub")


def import_torch_backend() -> None:
    """Import what runs checkpoints, without the compiler; afterwards that can be imported as ever."""
    import_module("torch")
    if "timm" in sys.modules or _COMPILER in sys.modules:  # nothing left to save
        return
    try:
        with _left_out():
            import_module("twin_dcal.inference.torch_backend")
    except Exception:  # a torch or timm that asks the compiler for more than stands here: slower, and right
        import_module("twin_dcal.inference.torch_backend")


@contextmanager
def _left_out() -> Iterator[None]:
    compiler, compiler_utils = ModuleType(_COMPILER), ModuleType(f"{_COMPILER}.utils")
    compiler.__path__ = []  # a package

    def unmarked(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
        return unmarked if function is None else function

    vars(compiler).update(disable=unmarked, utils=compiler_utils)
    vars(compiler_utils).update(is_compile_supported=lambda device: False, counters={})
    stands: list[ModuleType | None] = [
        compiler,
        compiler_utils,
        None,
        None,
    ]  # None: as if it were not installed
    missing = object()
    before = {name: sys.modules.get(name, missing) for name in _LEFT_OUT}
    try:
        for name, stand in zip(_LEFT_OUT, stands, strict=True):
            if before[name] is missing:
                sys.modules[name] = stand  # type: ignore[assignment]  # documented: None makes the import fail
        yield
    finally:
        for name in _LEFT_OUT:
            if before[name] is missing:
                sys.modules.pop(name, None)
