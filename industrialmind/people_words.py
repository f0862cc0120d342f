"""Users and tokens in words, for the command line."""

from collections.abc import Sequence
from typing import Any

import orjson


def as_json(found: Any) -> str:  # noqa: ANN401 - JSON
    """One line."""
    return orjson.dumps(found).decode()


def users_table(users: Sequence[dict[str, Any]]) -> str:
    """A line a user."""
    rows = [
        (
            user["name"],
            user["role"],
            "active" if user["active"] else "deactivated",
            "password" if user["password"] else "provider" if user["provider"] else "no password",
            user["display_name"],
        )
        for user in users
    ]
    return table(("name", "role", "state", "signs in by", "shown as"), rows)


def tokens_table(tokens: Sequence[dict[str, Any]]) -> str:
    """A line a token."""
    rows = [
        (
            token["id"],
            token["owner"],
            " ".join(token["scopes"]),
            (token["expires_at"] or "never")[:10],
            (token["used_at"] or "never")[:16].replace("T", " "),
            token["label"],
        )
        for token in tokens
    ]
    return table(("id", "owner", "scopes", "expires", "last used", "label"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as what is in them."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
