"""JSON files whose every fault is a ManifestError with the place in it."""

import json
from pathlib import Path
from typing import Any

from twin_dcal.errors import ManifestError
from twin_dcal.files import refuse_endless
from twin_dcal.jsontext import parse_json


def read_json(path: Path) -> Any:
    """Plain values of a JSON file (a byte order mark is fine).

    ManifestError names file, line and column of a syntax error, and a key written twice in one object.
    """
    refuse_endless(path, ManifestError)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file. Check the path.") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # a name that no file can have
        raise ManifestError(f"{path}: {error}") from None
    try:
        return parse_json(text, path)
    except ValueError as error:
        raise ManifestError(str(error)) from None


def as_id(value: object, place: str) -> str:
    """A person id; whole numbers are taken as their digits. ManifestError names `place` for anything else."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ManifestError(f"{place}: a person id is text or a whole number, this is {shown(value)}")


def shown(value: object) -> str:
    """A value in a message: JSON, cut to 60 characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
