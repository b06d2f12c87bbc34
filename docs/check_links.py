"""Whether every link in a built site leads somewhere: ``python docs/check_links.py build/site``.

Links inside the site, to files and to places within them; what is on the network is not asked.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """A page's links, and the places that links may name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what a tag refers to, and how it can be referred to."""
        for name, value in attributes:
            if value and name in ("href", "src", "srcset"):
                self.links.append(value)
            elif value and name in ("id", "name"):
                self.places.add(value)


def broken(site: Path) -> list[str]:
    """Return the links that lead nowhere, each with its page."""
    pages = {path.resolve(): Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            known = pages[target].places if target in pages else set()
            if not target.exists() or (place and target in pages and place not in known):
                found.append(f"{path.relative_to(site.resolve())}: {link}")
    return found


def main() -> int:
    """Print them; 1 if there are any."""
    site = Path(sys.argv[1])
    found = sorted(set(broken(site)))
    for line in found:
        print(line)
    print(f"{len(found)} links lead nowhere")
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
