"""JSON written by hand: what is wrong with it, in words that say what to write instead."""

import json
import re
from typing import Any

_LITERALS = {
    "true": "true",
    "false": "false",
    "none": "null",
    "null": "null",
    "nil": "null",
    "undefined": "null",
}


def parse_json(text: str, name: object) -> Any:
    """Read plain values. ValueError, in one line that begins with `name` and tells line and column, for a syntax error
    and for a key written twice in one object."""
    try:
        return json.loads(text, object_pairs_hook=_no_key_twice)
    except json.JSONDecodeError as error:
        place = f"{name}, line {error.lineno}, column {error.colno}"
        raise ValueError(f"{place}: not JSON ({_problem(text, error)})") from None
    except RecursionError:
        raise ValueError(f"{name}: nested too deeply to be read") from None
    except ValueError as error:  # a key written twice, a number with thousands of digits
        raise ValueError(f"{name}: {error}") from None


def _problem(text: str, error: json.JSONDecodeError) -> str:
    """The mistake that people make at this place, else what the parser says of it."""
    here, before = text[error.pos :], text[: error.pos].rstrip()
    if not text.strip():
        return "the file is empty"
    if before.endswith(",") and here[:1] in ("}", "]"):
        return f"a trailing comma before '{here[0]}': leave it out"
    if error.msg.startswith("Illegal trailing comma"):  # Python 3.13 and newer stop at the comma itself
        return f"a trailing comma before '{here[1:].lstrip()[:1]}': leave it out"
    if error.msg.startswith("Invalid \\"):
        return f"{error.msg}: a backslash in text is written twice, \\\\"
    if error.msg.startswith("Invalid control character"):
        return f"{error.msg}: text in quotes ends on its line; a tab is written \\t"
    if here.startswith(("#", "//", "/*")):
        return "a comment: JSON has none"
    if here.startswith("'"):
        return "text in single quotes: JSON takes double quotes"
    word = re.match(r"[A-Za-z_]\w*", here)
    if error.msg == "Expecting value" and word:
        return _literal(word[0])
    if error.msg.startswith("Expecting property name") and word:
        return f'a name without quotes: write "{word[0]}"'
    return error.msg


def _literal(word: str) -> str:
    meant = _LITERALS.get(word.lower())
    return f"a literal {word} is not JSON: write " + (meant or f'"{word}", in quotes, if it is text')


def _no_key_twice(items: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(items)
    if len(values) < len(items):
        keys = [key for key, _ in items]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is written twice in one object. Merge the two entries.")
    return values
