"""What the page says on its terminal, bounded: whoever sends requests cannot make it grow as they like.

Everything is bounded at the handlers that write, so that no logger is forgotten, be it a library's.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twin_dcal.plural import plural

LINES_AT_ONCE = 200
SECONDS_PER_LINE = 2.0
"""How soon a line more may be written once LINES_AT_ONCE are: at most 30 a minute for as long as somebody goes on."""
MAX_LINE = 300
"""Characters of a line; what is longer ends in a sign of omission."""
_MAX_TRACEBACK = 60  # lines; the last ones name the error
_OF_CLIENTS = {"asyncio", "python_multipart", "uvicorn"}
"""Libraries whose warnings are about what clients send; each such request is told by its status already."""


def shown(text: str) -> str:
    """One line of at most MAX_LINE characters: control characters and lone surrogates are escaped."""
    cut = text[: MAX_LINE + 1]
    line = "".join(sign if sign.isprintable() else _escaped(sign) for sign in cut)
    return line if len(line) <= MAX_LINE else line[: MAX_LINE - 1] + "…"


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode()


class Bounded(logging.Filter):
    """Lets records through while lines are left, each in lines that `shown` gives; the others are counted and told of.

    Args: clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._left, self._at = float(LINES_AT_ONCE), clock()
        self._omitted = 0
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] in _OF_CLIENTS and record.levelno < logging.ERROR:
            return False
        lines = _lines(record)
        with self._lock:
            now = self._clock()
            self._left = min(LINES_AT_ONCE, self._left + (now - self._at) / SECONDS_PER_LINE)
            self._at = now
            if self._left < 1:
                self._omitted += 1
                return False
            self._left -= len(lines)
            omitted, self._omitted = self._omitted, 0
        _set_lines(record, [*([_told(omitted)] if omitted else []), *lines])
        return True

    def omitted(self) -> str | None:
        """One line about records that nobody was told of yet, None if there are none."""
        return _told(self._omitted) if self._omitted else None


@contextmanager
def bounded_log() -> Iterator[None]:
    """While the block lasts, everything that the root logger's handlers write is bounded."""
    last_resort = [] if logging.lastResort is None else [logging.lastResort]
    filters = [(handler, Bounded()) for handler in [*logging.getLogger().handlers, *last_resort]]
    for handler, bounded in filters:
        handler.addFilter(bounded)
    try:
        yield
    finally:
        for handler, bounded in filters:
            handler.removeFilter(bounded)
            told = bounded.omitted()
            if told:
                handler.handle(
                    logging.makeLogRecord({"name": __name__, "levelno": logging.INFO, "msg": told})
                )


def _told(omitted: int) -> str:
    return f"({plural(omitted, 'entry', 'entries')} of this log left out here)"


def _lines(record: logging.LogRecord) -> list[str]:
    """A record's message, and the end of its traceback."""
    told = [shown(record.getMessage().strip())]
    if record.exc_info:
        trace = logging.Formatter().formatException(record.exc_info).splitlines()
        told += [shown(line) for line in trace[-_MAX_TRACEBACK:]]
    return told


def _set_lines(record: logging.LogRecord, lines: list[str]) -> None:
    record.msg, record.args = "\n".join(lines), ()
    record.exc_info = record.exc_text = record.stack_info = None
