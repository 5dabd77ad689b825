"""JSON files whose every fault is a ManifestError with the place in it."""

import json
from pathlib import Path
from typing import Any

from twin_dcal.errors import ManifestError


def read_json(path: Path) -> Any:
    """Plain values of a JSON file (a byte order mark is fine).

    ManifestError names file, line and column of a syntax error, and a key written twice in one object.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_no_key_twice)
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file. Check the path.") from None
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}, column {error.colno}"
        raise ManifestError(f"{place}: not JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except RecursionError:
        raise ManifestError(f"{path}: nested too deeply to be a data set description") from None
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ManifestError(f"{path}: {error}") from None


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


def _no_key_twice(items: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(items)
    if len(values) < len(items):
        keys = [key for key, _ in items]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is written twice in one object. Merge the two entries.")
    return values
