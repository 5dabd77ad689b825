"""The model hub that timm fetches weights from, and other servers: whether one can be asked, found out in seconds.

Left alone, huggingface_hub tries each file of a hub that is not there six times, more than a minute in all.
"""

import logging
import os
import ssl
import threading
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

from .errors import ModelError
from .privacy import is_our_default

logger = logging.getLogger(__name__)

PATIENCE_S = 3.0
_TRUE = {"1", "ON", "YES", "TRUE"}


def try_to_load_from_cache(repository: str, file: str, revision: str | None = None) -> object:
    """The path of a file of the hub that is on this machine, as text; anything else where it is not. The hub's library
    is imported by the call: a model that was trained needs none."""
    from huggingface_hub import try_to_load_from_cache as found

    return found(repository, file, revision=revision)


@cache  # asked once for a run, however many places need the answer
def need_hub(backbone: str, url: str | None = None) -> None:
    """Say that the network is asked, and return if the hub answers.

    Args: url: of the weights, where they are not on the hub. ModelError, within seconds, where the weights of
    `backbone`, which are not on this machine, cannot be fetched.
    """
    reason = "HF_HUB_OFFLINE forbids asking the hub"
    if url or is_our_default("HF_HUB_OFFLINE") or os.environ.get("HF_HUB_OFFLINE", "").upper() not in _TRUE:
        address = url or os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        logger.warning("model.pretrained: asking the network: weights of '%s' from the model hub", backbone)
        if answers(address):
            return
        reason = f"{address} does not answer"
    raise ModelError(
        f"the pretrained weights of '{backbone}' are not on this machine, and {reason}. Name a weights file with "
        "--model.pretrained FILE, or start from random weights with --model.pretrained false"
    )


def may_be_cached(backbone: str) -> bool:
    """Whether this machine holds anything of a model's name from the hub. Known without importing timm, so that a
    command can answer at once; `models.pretrained` looks for the very file."""
    return any(_cache().glob(f"models--*--{backbone.partition('.')[0]}*"))


def _cache() -> Path:
    """Where huggingface_hub keeps files, by the rules of its documentation."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{home}/huggingface"
    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(folder)).expanduser()


def answers(address: str) -> bool:
    """False if there is no way to the server, True for any answer. In a thread: a name server that is not there can
    hang for longer than any time limit of a connection."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(_is_reachable(address)), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return bool(found) and found[0]


def _is_reachable(address: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE_S).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        # What is no failure of the network (certificates, kinds of proxy) huggingface_hub may know how to deal with.
        return not isinstance(error.reason, OSError) or isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False
    except ValueError:
        return True
    return True
