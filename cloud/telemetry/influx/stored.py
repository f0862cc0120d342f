"""What is stored where new rows may meet it: points by identity, read a machine and an hour at once."""

import base64
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import numpy as np

from cloud.telemetry.influx.client import InfluxClient, Table
from cloud.telemetry.influx.encode import payload_of
from cloud.telemetry.influx.points import (
    AGGREGATE,
    KIND_AGGREGATE,
    KIND_READING,
    KIND_SCORE,
    READING,
    SCORE,
    between,
    text,
    unpack,
)
from cloud.telemetry.influx.settle import Identity, Payload, Row
from cloud.telemetry.port import HOUR_US, MINUTE_US
from cloud.telemetry.sql.known import Known, SeriesState
from shared.sqlalchemy import Database

_NAMED: Final = 32
"""Series that a query names; of more it asks for all of the machine's."""

_FIELDS: Final = {
    KIND_READING: (READING, "sensor", "value,a,o"),
    KIND_AGGREGATE: (AGGREGATE, "sensor", "o,rows,minimum,maximum,mean"),
    KIND_SCORE: (SCORE, "version", "o,l,d"),
}


async def stored_points(
    client: InfluxClient, books: Database, known: Known, identities: Collection[Identity]
) -> dict[Identity, Row]:
    """The points that are there under some identities. Those newer than all of their series are not asked for."""
    wanted = {one for one in identities if one[1] <= known.series_of[one[0]].newest_us}
    groups: dict[tuple[str, int, int], list[Identity]] = {}
    for series, time_us in wanted:
        state = known.series_of[series]
        groups.setdefault((state.machine, state.kind, time_us // HOUR_US), []).append((series, time_us))
    found: list[tuple[SeriesState, list[Any]]] = []
    for (machine, kind, _), some in sorted(groups.items()):
        names = {_tag(known.series_of[series]) for series, _ in some}
        times = [time_us for _, time_us in some]
        for table in await _ask(client, machine, kind, names, min(times), max(times)):
            there = known.machines[machine].series.get((kind, _name(kind, table)))
            if there is not None:
                found += [(there, line) for line in table.rows if (there.id, line[0]) in wanted]
    origins = {_origin(state, line) for state, line in found}
    machines = {machine for machine, *_ in groups}
    origins |= {one.origin for machine in machines for one in known.machines[machine].before.values()}
    if origins:
        await books.read(lambda connection: known.look_origins(connection, origins))
    made = (_row(known, state, line) for state, line in found)
    return {row.identity: row for row in made}


def noted_points(known: Known, identities: Iterable[Identity]) -> dict[Identity, Row]:
    """Points as they were before a write that was not settled."""
    made: dict[Identity, Row] = {}
    for identity in identities:
        state = known.series_of[identity[0]]
        before = known.machines[state.machine].before.get(identity)
        if before is not None and identity not in made:
            source = known.origin_of[before.origin][0]
            epoch = known.source_of[source].key[1]
            payload = payload_of(state.kind, before.payload)
            made[identity] = Row(
                identity, payload, (before.arrival_us, epoch, before.row), source, before.origin
            )
    return made


async def _ask(
    client: InfluxClient, machine: str, kind: int, names: set[str], first_us: int, last_us: int
) -> list[Table]:
    measurement, tag, fields = _FIELDS[kind]
    which = " OR ".join(f"{tag}={text(name)}" for name in sorted(names))
    only = f" AND ({which})" if len(names) <= _NAMED else ""
    groups = "sensor,width_us" if kind == KIND_AGGREGATE else tag
    place = client.place
    bucket = place.rollups(machine, MINUTE_US) if kind == KIND_AGGREGATE else place.readings(machine)
    [tables] = await client.ask(
        bucket,
        f"SELECT {fields} FROM {measurement} WHERE machine={text(machine)}{only}"  # noqa: S608 - own names, escaped values
        f" AND {between(first_us, last_us + 1)} GROUP BY {groups}",
    )
    return tables


def _tag(state: SeriesState) -> str:
    return state.name.rpartition("/")[0] if state.kind == KIND_AGGREGATE else state.name


def _name(kind: int, table: Table) -> str:
    if kind == KIND_AGGREGATE:
        return f"{table.tags['sensor']}/{table.tags['width_us']}"
    return table.tags["sensor" if kind == KIND_READING else "version"]


def _packed(state: SeriesState, line: Sequence[Any]) -> tuple[int, int, int]:
    o = line[3] if state.kind == KIND_READING else line[1]
    quality, origin, row = unpack(np.array([o], np.int64))
    return int(quality[0]), int(origin[0]), int(row[0])


def _origin(state: SeriesState, line: Sequence[Any]) -> int:
    return _packed(state, line)[1]


def _row(known: Known, state: SeriesState, line: Sequence[Any]) -> Row:
    quality, origin, row = _packed(state, line)
    source, unit = known.origin_of[origin]
    arrival = 0
    payload: Payload
    match state.kind:
        case 0:
            arrival = line[0] + line[2]
            payload = (float(line[1]), quality, unit)
        case 1:
            payload = (line[2], float(line[3]), float(line[4]), float(line[5]), unit)
        case _:
            payload = (abs(line[2]), quality, base64.b64decode(line[3]))
    rank = (arrival, known.source_of[source].key[1], row)
    return Row((state.id, line[0]), payload, rank, source, origin)
