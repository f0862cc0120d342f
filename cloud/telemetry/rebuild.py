"""The copy of a telemetry store that is made anew beside it: where it is, and when it is ready to replace the store.

One process makes a copy (`copy_url` until `mark_complete`); the store's own writer, which alone may replace its
content, finds it by `waiting`.
"""

from pathlib import Path
from urllib.parse import urlsplit

from cloud.telemetry import sqlite_rebuild as sqlite
from shared.errors import Misconfigured

_PREFIX = "sqlite:///"
_UNFIT = "unfit"


def _path(url: str) -> Path:
    if urlsplit(url).scheme != "sqlite":
        raise Misconfigured(
            f"{url} can't be rebuilt beside itself: only sqlite:///PATH can",
            hint="name a new bucket and new books in ingest's settings: it fills them from the log by itself",
        )
    return Path(url.removeprefix(_PREFIX))


def copy_url(url: str) -> str:
    """The copy that is being made of the store `url`. It may be there already, as far as someone came."""
    return f"{_PREFIX}{sqlite.building(_path(url))}"


def waiting(url: str) -> str | None:
    """The complete copy that waits to replace the store, if there is one. One look at the folder.

    Other stores than the embedded one have no copies.
    """
    if urlsplit(url).scheme != "sqlite":
        return None
    copy = sqlite.complete(_path(url))
    return f"{_PREFIX}{copy}" if copy.exists() else None


def mark_complete(url: str) -> None:
    """The copy is closed and whole: from now on it waits. Raises Unavailable."""
    if (old := refused(url)) is not None:
        sqlite.remove(old)
    sqlite.mark_complete(_path(url))


def discard(copy: str) -> None:
    """Remove a copy that was taken, or is not wanted."""
    sqlite.remove(_path(copy))


def set_aside(url: str, mark: str) -> Path:
    """Keep a store or copy that can't be used under another name, for examination."""
    return sqlite.set_aside(_path(url), mark)


def refuse(url: str) -> Path:
    """Set the complete copy aside: it can't be used."""
    return sqlite.set_aside(sqlite.complete(_path(url)), _UNFIT)


def refused(url: str) -> Path | None:
    """The copy that was refused since the last one was made, if one was."""
    aside = sqlite.complete(_path(url))
    aside = aside.with_name(f"{aside.name}.{_UNFIT}")
    return aside if aside.exists() else None


def use_copy(url: str) -> None:
    """Give the complete copy the store's own name, where no store is."""
    sqlite.complete(_path(url)).rename(_path(url))
