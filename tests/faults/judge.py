"""What became of every reading that was promised: in the log, in the store once, and by the audit's account."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from cloud.ledger.app import edge_reports
from cloud.ledger.audit import audit
from cloud.ledger.report import AuditReport
from cloud.telemetry.port import TelemetryReader, TelemetryStore
from shared.eventlog import EventLog, open_event_log
from shared.frame_codec import decode
from shared.frames import Readings
from shared.names import SENSOR_READINGS
from shared.nats import open_control
from tests.faults.load import Device, Identity

_NAMED = 5


@dataclass
class Verdict:
    """Of the machines with an edge: what is missing or wrong. Of the others: how much was lost on the way in."""

    promised: int = 0
    stored: int = 0
    records: int = 0
    resent: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    """Machine with no edge to readings that its broker confirmed and that are nowhere: `missing` are these."""
    missing: set[Identity] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    report: AuditReport | None = None

    def __str__(self) -> str:
        doubled = sum(one.rows for one in self.report.resolved if one.what == "doubled") if self.report else 0
        return (
            f"{self.promised} readings promised by brokers, {self.stored} stored, {self.records} records in the log"
            f" ({self.resent} of them again), {doubled} rows doubled on the way and stored once,"
            f" direct JSON lost: {self.lost}, faults: {self.faults or 'none'}"
        )

    def assert_clean(self, direct_bound: Mapping[str, int] | int = 0) -> None:
        """Nothing of an edge is missing, doubled or altered; of each direct machine at most so many are lost."""
        assert not self.faults, self
        for machine, lost in self.lost.items():
            bound = direct_bound if isinstance(direct_bound, int) else direct_bound.get(machine, 0)
            assert lost <= bound, f"{machine} lost {lost}, more than {bound}: {self}"


async def judge(
    log: tuple[str, str],
    reading: AbstractAsyncContextManager[TelemetryStore],
    control: tuple[str, str],
    outboxes: Mapping[str, Path],
    devices: Iterable[Device],
) -> Verdict:
    """Read log, store and outboxes of parts that were stopped."""
    verdict = Verdict()
    async with (
        open_event_log(log[0], credentials=log[1]) as event_log,
        reading as store,
        open_control(control[0], credentials=control[1]) as plane,
    ):
        logged = await _logged(event_log, verdict)
        stored = await _stored(store, [device.machine for device in devices], verdict)
        for device in devices:
            _compare(device, logged, stored, verdict)
        reports = await edge_reports(plane)
        verdict.report = await audit(event_log, store, reports, outboxes=outboxes)
    verdict.faults += [finding.model_dump_json() for finding in verdict.report.findings]
    behind = [note for note in verdict.report.notes if "behind" in note or "still holds" in note]
    verdict.faults += behind
    return verdict


def _compare(
    device: Device, logged: dict[Identity, float], stored: dict[Identity, float], verdict: Verdict
) -> None:
    acked = device.acked
    verdict.promised += len(acked)
    for place, found in (("log", logged), ("store", stored)):
        mine = {identity: value for identity, value in found.items() if identity.machine == device.machine}
        invented = [each for each, value in mine.items() if device.sent.get(each) != value]
        missing = [each for each in acked if each not in mine]
        if invented:
            verdict.faults.append(f"{place}: {len(invented)} that nobody sent: {invented[:_NAMED]}")
        if device.machine.startswith("d"):
            if place == "store":
                verdict.lost[device.machine] = len(missing)
                verdict.missing |= set(missing)
        elif missing:
            verdict.faults.append(f"{place}: {len(missing)} missing: {missing[:_NAMED]}")
    # A device with no edge is told "confirmed" by a broker that may forget: what reached the log reaches the store.
    unstored = [each for each in logged if each.machine == device.machine and each not in stored]
    if unstored:
        verdict.faults.append(f"{len(unstored)} in the log and not in the store: {unstored[:_NAMED]}")


async def _logged(log: EventLog, verdict: Verdict) -> dict[Identity, float]:
    """Every reading in the log. A row again must be the same row; two rows of one reading must have one value."""
    values: dict[Identity, float] = {}
    frames: dict[tuple[str, bytes, str, int], bytes] = {}
    async for record in log.read(SENSOR_READINGS):
        header, body = decode(record.value)
        assert isinstance(body, Readings)
        verdict.records += 1
        row = (header.edge, header.epoch, header.machine, header.first)
        if frames.setdefault(row, record.value) != record.value:
            verdict.faults.append(f"two frames of {row[0]} begin at row {header.first}")
        elif len(frames) + verdict.resent < verdict.records:
            verdict.resent += 1
        for at, value in enumerate(body.value.tolist()):
            sensor = body.sensor_names[int(body.sensor[at])]
            identity = Identity(header.machine, sensor, int(body.time_us[at]))
            if values.setdefault(identity, value) != value:
                verdict.faults.append(f"the log holds {identity} with two values")
    return values


async def _stored(store: TelemetryReader, machines: Iterable[str], verdict: Verdict) -> dict[Identity, float]:
    """Every reading in the store, of which no identity may come twice."""
    values: dict[Identity, float] = {}
    for machine in machines:
        async for part in store.columns(machine):
            for at, value in enumerate(part.value.tolist()):
                identity = Identity(machine, part.sensors[int(part.sensor[at])], int(part.time_us[at]))
                if identity in values:
                    verdict.faults.append(f"the store holds {identity} twice")
                values[identity] = value
    verdict.stored = len(values)
    return values
