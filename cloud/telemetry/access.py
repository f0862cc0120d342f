"""What a store's URL does not tell: secrets, and where the books are that some backends keep beside it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Access:
    """`token`: what a server asks for. `books_url`: the SQL database of a store whose readings are elsewhere."""

    token: str = field(default="", repr=False)
    books_url: str = field(default="", repr=False)
