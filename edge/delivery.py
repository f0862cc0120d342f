"""Models as they arrive: fetched, checked against the machine, kept on disk, handed to scoring; or refused.

What runs keeps running until the new model passed everything. A refusal is an event and part of the report, and is
looked at again when the machine's sensors change.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, Protocol

import structlog

from edge.models import SHADOW, ModelFolder
from edge.outbox import Outbox
from edge.waiting import event_or_time
from shared.clock import Clock
from shared.errors import NotFound, Rejected, Unavailable
from shared.events import Event, ModelRefused, at
from shared.frames import Kind, Records
from shared.loaded import Desired, Load, LoadedModel, fits
from shared.machine_view import MachineView
from shared.names import EDGE_KEYS
from shared.packing import Item

log = structlog.get_logger()

SETTLE_SECONDS: Final = 10.0
"""How long a machine that sends is watched before a sensor counts as missing."""

_LOOK_SECONDS: Final = 1.0
_MAX_RETRY_SECONDS: Final = 30.0

Install = Callable[[str, LoadedModel], None]


class ModelSource(Protocol):
    """The part of the control plane that delivers. Raises Unavailable; `get_model` also NotFound."""

    def watch_desired(self, edge: str) -> AsyncIterator[tuple[str, bytes | None] | None]:
        """Each (machine, desired state) now, then each change."""

    async def get_model(self, name: str) -> bytes:
        """A model's bytes."""


class Delivery:
    """Brings each machine to the model that is wanted for it."""

    def __init__(
        self,
        source: ModelSource,
        folder: ModelFolder,
        outbox: Outbox,
        views: Mapping[str, MachineView],
        clock: Clock,
        *,
        edge: str,
        running: Mapping[str, str],
        refusals: dict[str, str],
        load: Load,
        install: Install,
        try_out: Callable[[str, LoadedModel | None], None],
        on_change: Callable[[], None],
    ) -> None:
        self._source, self._folder, self._outbox, self._views = source, folder, outbox, views
        self._clock, self._edge = clock, edge
        self._load, self._install, self._try_out = load, install, try_out
        self._on_change, self._refusals = on_change, refusals
        self._installed = dict(running)
        self._wanted: dict[str, Desired] = {}
        self._fetched: dict[str, tuple[LoadedModel, bytes]] = {}
        self._refused: dict[str, tuple[str, frozenset[tuple[str, str]]]] = {}
        self._first_seen: dict[str, float] = {}
        self._changed = asyncio.Event()

    async def watch(self) -> None:
        """Note what is wanted, for ever."""
        async for change in self._source.watch_desired(self._edge):
            if change is None:
                continue
            machine, value = change
            if machine.startswith(EDGE_KEYS):
                continue
            if machine not in self._views or value is None:
                log.warning("a desired state that changes nothing", key=machine[:40], deleted=value is None)
                continue
            try:
                self._wanted[machine] = Desired.parse(value)
                await self._want_shadow(machine, Desired.shadow(value))
            except Rejected as error:
                await self._refuse(machine, Desired("", 0, "", ""), error.reason)
                continue
            self._forgive(machine)
            self._changed.set()

    async def _want_shadow(self, machine: str, desired: Desired | None) -> None:
        """Note which model is to run on trial; none ends a trial at once."""
        slot = machine + SHADOW
        self._forgive(slot)
        if desired is not None:
            self._wanted[slot] = desired
            return
        self._wanted.pop(slot, None)
        tried = self._installed.pop(slot, None)
        if tried is not None:
            promoted = self._wanted.get(machine)
            if promoted is not None and promoted.sha256 == tried:
                await self._take_kept(machine, promoted)
            await asyncio.to_thread(self._folder.forget, slot)
            self._try_out(machine, None)

    async def run(self) -> None:
        """Bring about what is wanted, for ever."""
        delay = _LOOK_SECONDS
        while True:
            for slot, desired in list(self._wanted.items()):
                if self._is_settled(slot, desired):
                    continue
                machine = slot.removesuffix(SHADOW)
                try:
                    await self._deliver(slot, machine, desired)
                    delay = _LOOK_SECONDS
                except Unavailable as error:
                    log.info("the model can't be fetched yet", machine=machine, reason=str(error))
                    delay = min(2 * delay, _MAX_RETRY_SECONDS)
                except NotFound as error:
                    await self._refuse(
                        machine, desired, f"its file is not in the object store: {error}", slot
                    )
                except Rejected as error:
                    await self._refuse(machine, desired, error.reason, slot)
            await event_or_time(self._changed, self._clock, delay)

    def _forgive(self, slot: str) -> None:
        """What was refused there is wanted no more, or is looked at anew."""
        self._refused.pop(slot, None)
        self._refusals.pop(slot, None)

    def _is_settled(self, slot: str, desired: Desired) -> bool:
        if self._installed.get(slot) == desired.sha256:
            return True
        return self._refused.get(slot) == (desired.sha256, self._shape(slot.removesuffix(SHADOW)))

    def _shape(self, machine: str) -> frozenset[tuple[str, str]]:
        return frozenset(self._views[machine].units().items())

    async def _deliver(self, slot: str, machine: str, desired: Desired) -> None:
        fetched = self._fetched.get(slot)
        if fetched is None or fetched[0].desired != desired:
            fetched = await self._take_kept(slot, desired)
        if fetched is None:
            data = await self._source.get_model(desired.object_name)
            fetched = await asyncio.to_thread(self._load, desired, data), data
            self._fetched[slot] = fetched
        model, data = fetched
        if not self._fits(machine, model):
            return
        try:
            await asyncio.to_thread(self._folder.save, slot, desired, data)
        except OSError as error:
            raise Unavailable(f"the model can't be kept on disk: {error}") from error
        del self._fetched[slot]
        self._forgive(slot)
        self._installed[slot] = desired.sha256
        if slot == machine:
            self._install(machine, model)
        else:
            self._try_out(machine, model)

    async def _take_kept(self, slot: str, desired: Desired) -> tuple[LoadedModel, bytes] | None:
        """What this edge has run already: with no network, it goes back to the model before, and ends a trial by promotion."""
        kept = await asyncio.to_thread(self._folder.kept, desired)
        if kept is not None:
            self._fetched[slot] = kept
        return kept

    def _fits(self, machine: str, model: LoadedModel) -> bool:
        """Whether the machine feeds the model; False while too little was seen of it to say. Raises Rejected."""
        view = self._views[machine]
        now = self._clock.monotonic()
        first = now if view.arrival_us is None else self._first_seen.setdefault(machine, now)
        return fits(model, machine, view, settled=now - first >= SETTLE_SECONDS)

    async def _refuse(self, machine: str, desired: Desired, reason: str, slot: str = "") -> None:
        """Report once; what ran runs on."""
        slot = slot or machine
        self._fetched.pop(slot, None)
        self._refused[slot] = (desired.sha256, self._shape(machine))
        self._refusals[slot] = reason
        log.warning(
            "model refused", machine=machine, model=desired.model, version=desired.version, reason=reason
        )
        event = ModelRefused(
            source=f"edge/{self._edge}",
            subject=machine,
            occurred_at=at(self._clock.now_us()),
            edge=self._edge,
            model=desired.model,
            model_version=desired.version,
            version_hash=desired.sha256,
            reason=reason,
        )
        self._on_change()
        await keep_event(self._outbox, machine, event, self._clock)


async def keep_event(outbox: Outbox, machine: str, event: Event, clock: Clock) -> None:
    """Commit an event; waits as long as the outbox can't take it."""
    item = Item(machine, Kind.EVENT, Records((event.to_json(),)), urgent=True)
    while True:
        try:
            await outbox.append([item])
        except Unavailable as error:
            await clock.sleep(error.retry_after)
        else:
            return
