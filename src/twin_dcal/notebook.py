"""Values as small tables in a notebook."""

from collections.abc import Sequence
from html import escape


def html_table(rows: Sequence[Sequence[object]], header: Sequence[str] = ()) -> str:
    """Rows of text as an HTML table, with the first cell of each as its heading; everything is escaped."""
    head = (
        f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in header)}</tr></thead>" if header else ""
    )
    lines = "".join(
        f"<tr><th>{escape(str(first))}</th>{''.join(f'<td>{escape(str(cell))}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return f"<table>{head}<tbody>{lines}</tbody></table>"
