"""Rows that others refer to by a small id, and the statements of tables that are written a row at a time."""

import sqlite3
from typing import Final

_CACHED_IDS: Final = 100_000


class Table:
    """The statements of a table that is written a row at a time."""

    def __init__(self, name: str, key: tuple[str, ...], columns: tuple[str, ...]) -> None:
        kept = (*columns, "source", "row")
        everything = (*key, *kept)
        where = " AND ".join(f"{column} = ?" for column in key)
        self.insert = (
            f"INSERT INTO {name} ({', '.join(everything)})"  # noqa: S608 - own names
            f" VALUES ({', '.join('?' * len(everything))}) ON CONFLICT DO NOTHING"
        )
        self.select = f"SELECT {', '.join(kept)} FROM {name} WHERE {where}"  # noqa: S608 - own names
        self.update = f"UPDATE {name} SET {', '.join(f'{column} = ?' for column in kept)} WHERE {where}"  # noqa: S608 - own names


class Interned:
    """Ids of interned rows, made when missing. The cache must be forgotten when a transaction does not commit."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._ids: dict[tuple[str, tuple[object, ...]], int] = {}
        self._sources: dict[tuple[str, bytes], int] = {}
        self._epochs: dict[int, bytes] = {}

    @property
    def full(self) -> bool:
        """Whether the cache has reached its bound and should be forgotten."""
        return len(self._ids) > _CACHED_IDS

    def forget(self) -> None:
        """Drop the cache."""
        self._ids.clear()
        self._sources.clear()
        self._epochs.clear()

    def source(self, edge: str, epoch: bytes) -> int:
        """The id of an edge's epoch."""
        source = self._sources.get((edge, epoch))
        if source is None:
            source = self._sources[edge, epoch] = self.of("sources", ("edge", "epoch"), (edge, epoch))
            self._epochs[source] = epoch
        return source

    def series(self, machine: str, sensor: str) -> int:
        """The id of a machine's sensor."""
        return self.of("series", ("machine", "sensor"), (machine, sensor))

    def of(self, table: str, columns: tuple[str, ...], values: tuple[object, ...]) -> int:
        """The id of a row of an interning table."""
        found = self._ids.get((table, values))
        if found is not None:
            return found
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        where = " AND ".join(f"{column} = ?" for column in columns)
        self._db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING", values)  # noqa: S608 - own names
        row = self._db.execute(f"SELECT id FROM {table} WHERE {where}", values).fetchone()  # noqa: S608 - own names
        self._ids[(table, values)] = int(row[0])
        return int(row[0])

    def epoch(self, source: int) -> bytes:
        """The epoch of a source."""
        if source not in self._epochs:
            row = self._db.execute("SELECT epoch FROM sources WHERE id = ?", (source,)).fetchone()
            self._epochs[source] = bytes(row[0])
        return self._epochs[source]
