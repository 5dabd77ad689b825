"""Check a built site: every link within it leads somewhere, and no page loads anything from elsewhere.

python docs/_site/site_check.py build/site
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Ids and links of a page; `loads` are addresses that a browser fetches by itself."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = {"", "__skip"}
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "alternate", "prev", "next"):
            self.loads.append(given["href"])
        elif tag in ("img", "script", "iframe", "source", "video") and "src" in given:
            self.loads.append(given["src"])


def faults(site: Path) -> list[str]:
    """A line for each link that leads nowhere and each address elsewhere that would be loaded."""
    pages = {path.resolve(): _Page(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links are from the root of a server
            continue
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    found.append(f"{path.relative_to(site.resolve())}: loads {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                found.append(f"{path.relative_to(site.resolve())}: no file {link}")
            elif target in pages and unquote(parts.fragment) not in pages[target].ids:
                found.append(f"{path.relative_to(site.resolve())}: no place {link}")
    elsewhere = re.compile(r"url\(\s*['\"]?(https?:)?//")
    styles = [
        path for path in sorted(site.rglob("*.css")) if elsewhere.search(path.read_text(encoding="utf-8"))
    ]
    return found + [f"{path.relative_to(site)}: loads something from a server" for path in styles]


if __name__ == "__main__":
    told = faults(Path(sys.argv[1]))
    print("\n".join(told) or f"{sys.argv[1]}: all links lead somewhere, nothing is loaded from elsewhere")
    sys.exit(bool(told))
