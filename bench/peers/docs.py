"""Tables of a run, kept in the documentation between marks that name them."""

import re
from pathlib import Path
from typing import Final

_DOCS: Final = Path(__file__).parents[2] / "docs"
GATEWAY: Final = _DOCS / "benchmarks-gateway.md"
EDGE: Final = _DOCS / "benchmarks-edge.md"
STORAGE: Final = _DOCS / "benchmarks-storage.md"


def keep(name: str, text: str, in_: Path = GATEWAY) -> None:
    """Put `text` between `<!-- name -->` and `<!-- end -->`. Raises ValueError if the page has no such marks."""
    page = in_.read_text()
    marked = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not marked.search(page):
        raise ValueError(f"{in_.name} has no place for {name}")
    in_.write_text(marked.sub(lambda match: f"{match[1]}\n{text.strip()}\n\n{match[2]}", page))
