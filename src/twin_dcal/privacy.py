"""What keeps this machine's libraries from asking the network, as defaults that a user's environment overrides.

Each was seen to ask when left alone (docs/privacy.md). They are read when those libraries are imported, so they are
set before: by every command, by the packages that import timm, by the trackers, and where ONNX Runtime and Ray are
imported. Never by `import twin_dcal`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

PRIVACY_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",  # MLflow reads no other value
    "WANDB_ERROR_REPORTING": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # its own disable_telemetry_events() does not suffice
    "RAY_USAGE_STATS_ENABLED": "0",
}

_OURS = "TWIN_DCAL_DEFAULTS"
"""Names that were set here; in the environment, so that a child process can tell them from the user's."""


def set_privacy_defaults() -> None:
    """Set what the environment does not say yet."""
    ours = [name for name in PRIVACY_DEFAULTS if name not in os.environ]
    for name in ours:
        os.environ[name] = PRIVACY_DEFAULTS[name]
    if ours:
        os.environ[_OURS] = ",".join(filter(None, [os.environ.get(_OURS), *ours]))


def is_our_default(name: str) -> bool:
    """Whether a variable of the environment was set here rather than by the user."""
    return name in os.environ.get(_OURS, "").split(",")


@contextmanager
def hub_allowed() -> Iterator[None]:
    """Let huggingface_hub ask its server inside the block, unless the user's own HF_HUB_OFFLINE forbids it."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    if is_our_default("HF_HUB_OFFLINE"):
        constants.HF_HUB_OFFLINE = False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
