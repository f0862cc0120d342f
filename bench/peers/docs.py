"""Tables of a run, kept in the documentation between marks that name them."""

import re
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "benchmarks-gateway.md"


def keep(name: str, text: str) -> None:
    """Put `text` between `<!-- name -->` and `<!-- end -->`. Raises ValueError if the page has no such marks."""
    page = PAGE.read_text()
    marked = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not marked.search(page):
        raise ValueError(f"{PAGE.name} has no place for {name}")
    PAGE.write_text(marked.sub(lambda match: f"{match[1]}\n{text.strip()}\n\n{match[2]}", page))
