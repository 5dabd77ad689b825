"""twin_dcal: tell apart faces that look alike, identical twins above all.

Public names load on first use, so that ``import twin_dcal`` costs nothing and touches nothing.
"""

from ._version import __version__

TYPE_CHECKING = False  # as type checkers know it; importing `typing` would take longer than all the rest
if TYPE_CHECKING:
    from typing import Any

    from .config import TwinVerificationConfig
    from .data.datamodule import TwinDataModule
    from .inference.engine import TwinInferenceEngine
    from .models.dcal import DCALVerificationModel

_HOME = {
    "TwinVerificationConfig": ".config",
    "TwinDataModule": ".data.datamodule",
    "DCALVerificationModel": ".models.dcal",
    "TwinInferenceEngine": ".inference.engine",
}

__all__ = [
    "DCALVerificationModel",
    "TwinDataModule",
    "TwinInferenceEngine",
    "TwinVerificationConfig",
    "__version__",
]


def __getattr__(name: str) -> "Any":
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
