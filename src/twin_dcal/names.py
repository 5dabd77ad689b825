"""File names as text.

A name is bytes, and Python keeps those that are no UTF-8 as lone surrogates, which no text file can hold. They are
written as \\udcfc, as JSON writes them, wherever a name is written, and read back from there.
"""

import re
from collections.abc import Iterable
from unicodedata import category

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # part of words in several scripts
_WRITTEN = re.compile(r"\\udc([89a-f][0-9a-f])")


def written(name: object) -> str:
    """A name fit for any text: `J\\udcfcrgen.jpg` for the bytes of Jürgen.jpg in Latin-1."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def restored(text: str) -> str:
    """The name that `written` wrote, whose file can be opened."""
    return _WRITTEN.sub(lambda match: chr(0xDC00 + int(match[1], 16)), text)


def printable(text: object, kept: str = "") -> str:
    """A name or a text of a file in one line that a terminal obeys in nothing: line breaks, escape sequences and what
    turns the direction of writing are told as \\n, \\x1b and \\u202e, odd bytes as `written` has them.

    Args: kept: such signs that stay as they are.
    """
    text, known = str(text), _JOINERS + kept
    if text.isprintable():
        return text
    return "".join(
        sign.encode("unicode_escape").decode() if category(sign) in _UNSEEN and sign not in known else sign
        for sign in text
    )


def one_a_line(lines: Iterable[object]) -> str:
    """A text of these lines, each `printable`: a name in one of them makes no line of its own."""
    return "\n".join(map(printable, lines))
