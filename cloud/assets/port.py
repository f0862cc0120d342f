"""The ports of assets: what others read of them, and how people change them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from cloud.assets.fold import State
from cloud.assets.model import Asset, Fields, Kind, MeterReading, Status, Thing, WorkOrder
from shared.errors import Conflict
from shared.eventlog import Position

T = TypeVar("T")


class Stale(Conflict):
    """The revision that a change was meant for is no longer the newest."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of them, whether there are more after the last, and the log's position that they show."""

    items: Sequence[T]
    more: bool
    position: Position


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which assets; empty fields ask for nothing. `text` is a part of id or name, in any case."""

    kind: Kind | None = None
    machine: str = ""
    site: str = ""
    area: str = ""
    edge: str = ""
    text: str = ""
    retired: bool = False
    """Those too that are out of use."""


@dataclass(frozen=True, slots=True)
class WantedOrders:
    """Which work orders; empty fields ask for nothing."""

    status: Status | None = None
    machine: str = ""
    component: str = ""
    anomaly: str = ""


class AssetReader(Protocol):
    """The projection of the topics `assets` and `work-orders`. Every method raises Unavailable."""

    async def assets(self, wanted: Wanted, after: tuple[str, str], limit: int) -> Page[Asset]:
        """By kind and id, after this (kind, id)."""
        ...

    async def asset(self, kind: Kind, asset: str) -> Asset | None:
        """One, retired or not."""
        ...

    async def counters(self, owner: str, after: str, limit: int) -> Page[MeterReading]:
        """By id, after this one; of one machine or component (empty: of all)."""
        ...

    async def counter(self, counter: str) -> MeterReading | None:
        """One."""
        ...

    async def orders(self, wanted: WantedOrders, before: int, limit: int) -> Page[WorkOrder]:
        """Newest first, those with a lower number than `before` (0: from the newest on)."""
        ...

    async def order(self, order: str) -> WorkOrder | None:
        """One."""
        ...

    async def positions(self) -> Mapping[str, Position]:
        """Topic to the position that the tables show."""
        ...


class Projection(AssetReader, Protocol):
    """The same with its writing side, which its one owner has."""

    async def load(self) -> tuple[State, dict[str, Position]]:
        """The fold that the tables hold, and the positions it stands at."""
        ...

    async def save(
        self,
        things: Sequence[Thing],
        requests: Mapping[str, tuple[str, str]],
        positions: Mapping[str, Position],
    ) -> None:
        """Write what changed and the positions it stands at in one transaction. Again, it changes nothing more."""
        ...

    async def replace(self, state: State, positions: Mapping[str, Position]) -> None:
        """Make the tables those of this fold: for every reader at once, or not at all."""
        ...


@dataclass(frozen=True, slots=True)
class By:
    """Who asks, under which idempotency key, and (if said) of which revision."""

    name: str
    request: str
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What a command came to. `position` shows it; `changed` is False where it was so already."""

    thing: T
    position: Position
    changed: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """What an import makes of one asset: for each field (what held, what will). `line` is the file's."""

    line: int
    kind: Kind
    id: str
    action: str
    fields: Mapping[str, tuple[object, object]]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line can't be imported."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """An import: what differs, what is wrong (then nothing is written), and the position that shows it."""

    differences: Sequence[Difference]
    faults: Sequence[Fault]
    position: Position


class AssetCommands(Protocol):
    """How people change assets, counters and work orders; all are durable on return, and done once a request.

    All raise Unavailable (ask again under the same key), NotFound, Rejected (values), Conflict (the key was used
    for something else, or it is not in the state for it) and Stale (the revision).
    """

    async def create(self, kind: Kind, asset: str, fields: Fields, by: By) -> Done[Asset]:
        """An asset that was not seen by itself."""
        ...

    async def change(self, kind: Kind, asset: str, fields: Fields, by: By) -> Done[Asset]:
        """Other values for some fields; null: what is observed holds again."""
        ...

    async def retire(self, kind: Kind, asset: str, why: str, by: By) -> Done[Asset]:
        """Out of use; a machine with its parts. Nothing is deleted."""
        ...

    async def restore(self, kind: Kind, asset: str, by: By) -> Done[Asset]:
        """In use again."""
        ...

    async def count(self, counter: str, value: float, as_of: datetime | None, by: By) -> Done[MeterReading]:
        """Set a counter, as of now if not said; the first time makes it."""
        ...

    async def reset(self, counter: str, reason: str, by: By) -> Done[MeterReading]:
        """Begin at nought again."""
        ...

    async def open(self, machine: str, fields: Fields, by: By) -> Done[WorkOrder]:
        """A new work order."""
        ...

    async def reword(self, order: str, fields: Fields, by: By) -> Done[WorkOrder]:
        """Other fields of a work order."""
        ...

    async def start(self, order: str, by: By) -> Done[WorkOrder]:
        """Somebody is at it."""
        ...

    async def close(self, order: str, failure_code: str, actions: str, by: By) -> Done[WorkOrder]:
        """It is done."""
        ...

    async def cancel(self, order: str, why: str, by: By) -> Done[WorkOrder]:
        """It will not be done."""
        ...

    async def export(self, layout: str) -> tuple[str, Position]:
        """Every asset in use as a file, `yaml` or `csv`, and the position that it shows."""
        ...

    async def load_file(self, text: bytes, layout: str, by: By, *, dry_run: bool) -> Imported:
        """Bring assets to what a file says; nothing is written if a line of it is wrong."""
        ...
