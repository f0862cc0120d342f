"""The stores that the telemetry store's suite runs over, and in what they differ."""

import secrets
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from cloud.telemetry.access import Access
from cloud.telemetry.port import TelemetryStore, open_store
from deploy.servers.influxdb import InfluxDB
from deploy.servers.postgresql import PostgreSQL


@dataclass(frozen=True)
class Opening:
    """A store of a test's own, which it opens again and again.

    `one_writer`: a second writer is refused. Books in PostgreSQL have any number.
    """

    url: str
    access: Access
    one_writer: bool = True

    def __call__(self, *, read_only: bool = False) -> AbstractAsyncContextManager[TelemetryStore]:
        return open_store(self.url, read_only=read_only, access=self.access)


def on_sqlite(folder: Path) -> Opening:
    """The embedded one."""
    return Opening(f"sqlite:///{folder}/telemetry.db", Access())


def on_influxdb(server: InfluxDB, books_url: str) -> Opening:
    """New buckets, with books at `books_url`."""
    url = f"influxdb://{server.url.partition('//')[2]}/{server.org}/t-{secrets.token_hex(4)}"
    return Opening(url, Access(server.token, books_url), one_writer=books_url.startswith("sqlite:"))


def new_database(server: PostgreSQL) -> str:
    """An empty database."""
    name = f"books_{secrets.token_hex(4)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server.url.rpartition('/')[0]}/{name}"
