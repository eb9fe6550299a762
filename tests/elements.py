"""What an HTML page is made of."""

from html.parser import HTMLParser
from pathlib import Path


class Elements(HTMLParser):
    """Every element of a page with its attributes, in order, and all that is said."""

    def __init__(self, page: Path):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a kind."""
        return [attributes for name, attributes in self.found if name == tag]

    def handlers(self) -> list[str]:
        """Attributes that would run a script."""
        return [name for _, attributes in self.found for name in attributes if name.startswith("on")]
