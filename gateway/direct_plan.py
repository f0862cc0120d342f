"""The JSON of machines with no edge, framed by the gateway. Pure; nothing is raised for bad input.

A batch becomes columns first (`singles`, and `parse_device` for what is unusual), which are then sorted by machine and
cut into frames. Rows are numbered here, without a gap in each machine's epoch; a number that never reaches the log is
no loss, since nobody but the gateway ever knew of it.
"""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.logic import Assignments, Collected, Group, Plan, Refusal, letter, record_id
from gateway.one_row import OneRowFrames
from gateway.port import Arrivals
from gateway.series import Machine, Series
from gateway.singles import UNIT_NAMES, UNIT_NUMBERS, Singles, join, parse_singles
from shared import names
from shared.device_json import parse_device
from shared.errors import Rejected
from shared.eventlog import Record
from shared.frame_codec import encode
from shared.frames import MAX_ROWS, Header, Kind, Readings
from shared.names import DeviceTopic, is_wave_topic

_UNITS: Final = len(UNIT_NAMES)
_BUSY_ROWS: Final = 1000
_FEW_ROWS: Final = 16
_NO_HEADERS: Final[Mapping[str, str]] = {}


class DirectPlanner:
    """Plans batches for one gateway, known as edge `gateway` to the ledger. At most `rows` rows a frame."""

    def __init__(self, gateway: str, epoch: bytes, *, rows: int = MAX_ROWS) -> None:
        self.gateway = gateway
        self._rows = rows
        self._series = Series(epoch)
        self._one_row = OneRowFrames()

    def plan(self, arrivals: Arrivals, assignments: Assignments, *, now_us: int) -> Plan:
        """Frame the readings. Machines that have an edge are left to it."""
        plan = Plan()
        if self._series.make_room(len(arrivals)):
            self._one_row.forget()
        series = self._series.numbers(arrivals.topics)
        singles = parse_singles(arrivals.payloads, now_us)
        usual = np.zeros(len(arrivals), np.bool_)
        usual[singles.message] = True
        odd = _Odd(self.gateway, arrivals, now_us, plan)
        for index in np.flatnonzero(~usual | (series < 0)).tolist():
            if not _left_to_its_edge(arrivals.topics[index], assignments):
                series[index] = odd.look_at(index, self._series, usual=bool(usual[index]))
        columns = join([singles.where(series[singles.message] >= 0), *odd.columns])
        plan.groups = odd.letters.groups() + self._framed(columns, series, assignments, now_us)
        return plan

    def _framed(
        self, columns: Singles, series: NDArray[np.int64], assignments: Assignments, now_us: int
    ) -> list[Group]:
        """A group a machine, in the order of their first message."""
        machine = self._series.machines_of(series[columns.message])
        has_edge = [n for n in np.unique(machine).tolist() if self._series.machines[n].name in assignments]
        if has_edge:
            kept = ~np.isin(machine, has_edge)
            columns, machine = columns.where(kept), machine[kept]
        order = np.lexsort((columns.message, machine))
        columns, machine = columns.where(order), machine[order]
        ends = np.flatnonzero(np.diff(machine, append=-1)) + 1
        cuts = list(zip([0, *ends.tolist()], ends.tolist(), strict=False))
        code = series[columns.message] * _UNITS + columns.unit
        one_each = self._rows == 1 or _spread_thin(len(machine), len(cuts))
        records = self._one_row_records if one_each else self._records
        made = records(columns, code, [(self._series.machines[machine[a]], a, b) for a, b in cuts], now_us)
        groups = [
            Group(
                names.SENSOR_READINGS,
                self._series.machines[machine[start]].name,
                each,
                list(dict.fromkeys(columns.message[start:stop].tolist())),
            )
            for (start, stop), each in zip(cuts, made, strict=True)
        ]
        return sorted(groups, key=lambda group: group.messages[0])

    def _records(
        self,
        columns: Singles,
        code: NDArray[np.int64],
        cuts: Sequence[tuple[Machine, int, int]],
        now_us: int,
    ) -> list[list[Record]]:
        """The frames of each machine."""
        made = []
        for machine, start, stop in cuts:
            records = []
            for first in range(start, stop, self._rows):
                last = min(first + self._rows, stop)
                header = self._header(machine, last - first)
                body = self._readings(columns, code, slice(first, last), now_us)
                records.append(Record(encode(header, body), id=record_id(header, header.first)))
            made.append(records)
        return made

    def _readings(self, columns: Singles, code: NDArray[np.int64], rows: slice, now_us: int) -> Readings:
        """The columns of one frame, whose sensors are numbered in the order of their first reading."""
        codes, firsts, inverse = np.unique(code[rows], return_index=True, return_inverse=True)
        order = np.argsort(firsts)
        place = np.empty(len(codes), np.int64)
        place[order] = np.arange(len(codes))
        ordered = codes[order].tolist()
        return Readings(
            tuple(self._series.sensors[each // _UNITS] for each in ordered),
            tuple(UNIT_NAMES[each % _UNITS] for each in ordered),
            place[inverse],
            columns.time_us[rows],
            np.full(rows.stop - rows.start, now_us, np.int64),
            columns.value[rows],
            columns.quality[rows],
        )

    def _one_row_records(
        self,
        columns: Singles,
        code: NDArray[np.int64],
        cuts: Sequence[tuple[Machine, int, int]],
        now_us: int,
    ) -> list[list[Record]]:
        """A frame a row, for each machine. They carry no id: the log would keep one for every reading."""
        row = np.empty(len(code), np.int64)
        for machine, start, stop in cuts:
            header = self._header(machine, stop - start)
            row[start:stop] = np.arange(header.first, header.first + stop - start)
            for each in set(code[start:stop].tolist()):
                if not self._one_row.knows(each):
                    sensor, unit = self._series.sensors[each // _UNITS], UNIT_NAMES[each % _UNITS]
                    self._one_row.learn(each, header, sensor, unit)
        frames = self._one_row.encode(code, row, columns.time_us, now_us, columns.value, columns.quality)
        records = list(map(Record, frames, repeat(_NO_HEADERS)))
        return [records[start:stop] for _, start, stop in cuts]

    def _header(self, machine: Machine, count: int) -> Header:
        """The header of the machine's next `count` rows, which are thereby numbered."""
        first = machine.next_row
        machine.next_row = first + count
        return Header(machine.site, self.gateway, machine.name, Kind.READINGS, machine.epoch, first, count)


def _spread_thin(rows: int, machines: int) -> bool:
    """Whether a batch under load has so few rows a machine that a frame for each row costs less than one for them."""
    return rows >= _BUSY_ROWS and rows < _FEW_ROWS * machines


class _Odd:
    """Looks at messages one by one that are anything but a good reading of a known series."""

    def __init__(self, gateway: str, arrivals: Arrivals, now_us: int, plan: Plan) -> None:
        self.letters = Collected()
        self.columns: list[Singles] = []
        self._gateway = gateway
        self._arrivals = arrivals
        self._now_us = now_us
        self._refusals = plan.refusals

    def look_at(self, index: int, series: Series, *, usual: bool) -> int:
        """The number of the message's series, -1 if it is refused. One that is not `usual` is parsed here."""
        text, payload = self._arrivals.topics[index], self._arrivals.payloads[index]
        key = self._gateway
        try:
            topic = DeviceTopic.parse(text)
            key = topic.machine
            number = series.learn(text, topic)
            if not usual:
                self._parse(index, topic, payload)
        except Rejected as error:
            self._refuse(index, key, "payload", error.reason, payload)
            return -1
        return number

    def _parse(self, index: int, topic: DeviceTopic, payload: bytes) -> None:
        parsed = parse_device(topic, payload, now_us=self._now_us)
        for each in parsed.rejects:
            self._refuse(index, topic.machine, "reading", each.reason, each.item)
        readings = parsed.readings
        if len(readings):
            units = np.array([UNIT_NUMBERS[unit] for unit in readings.units], np.int64)
            self.columns.append(
                Singles(
                    np.full(len(readings), index, np.int64),
                    units[readings.sensor],
                    readings.time_us,
                    readings.value,
                    readings.quality,
                )
            )

    def _refuse(self, index: int, key: str, kind: str, reason: str, payload: bytes) -> None:
        made = letter(
            reason, self._arrivals.topics[index], payload, gateway=self._gateway, now_us=self._now_us
        )
        self.letters.add(index, names.DEAD_LETTER, key, [made])
        self._refusals.append(Refusal(kind))


def _left_to_its_edge(topic: str, assignments: Assignments) -> bool:
    """Whether an edge hears this topic too, good or bad: `plant/SITE/MACHINE/SENSOR`, or `…/wave` below it, of its machine."""
    parts = topic.split("/")
    heard = len(parts) == 4 or is_wave_topic(topic)  # noqa: PLR2004 - the grammar of device topics
    return heard and parts[2] in assignments
