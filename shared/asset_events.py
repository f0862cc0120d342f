"""Events of the topic `assets`: what the plant consists of, as it was seen and as people say, and its counters.

`subject` is the id: of a component, sensor or counter `MACHINE.NAME`. `revision` numbers an asset's events from 1 without
gaps, so an event that is read again changes nothing.
"""

from typing import Any, ClassVar

from pydantic import Field

from shared.event import Event, Moment


class _AssetEvent(Event):
    """An asset's event number `revision`."""

    identity: ClassVar[tuple[str, ...]] = ("kind", "revision")

    kind: str
    revision: int = Field(ge=1)


class AssetObserved(_AssetEvent):
    """What births, readings, assignments and models say of an asset, as far as it is news; null: they say it no longer.

    The first one of an asset is its discovery.
    """

    type: ClassVar[str] = "asset.observed"

    fields: dict[str, Any]


class _ByPerson(_AssetEvent):
    """A person's change. `request`: a digest of what was asked, kept with the last event of a request."""

    by: str
    request: str = ""


class AssetEdited(_ByPerson):
    """A person's word on an asset, which stands above what is observed; null: back to what is observed."""

    type: ClassVar[str] = "asset.edited"

    fields: dict[str, Any]


class AssetRetired(_ByPerson):
    """An asset is out of use; its history stays."""

    type: ClassVar[str] = "asset.retired"

    why: str


class AssetRestored(_ByPerson):
    """A retired asset is in use again."""

    type: ClassVar[str] = "asset.restored"


class _CounterEvent(Event):
    """A counter's event number `revision`."""

    identity: ClassVar[tuple[str, ...]] = ("revision",)

    revision: int = Field(ge=1)
    by: str
    request: str = ""


class CounterSet(_CounterEvent):
    """A counter stood at `value` at `as_of`."""

    type: ClassVar[str] = "counter.set"

    value: float = Field(ge=0)
    as_of: Moment


class CounterReset(_CounterEvent):
    """A counter begins at nought again, for example after a replacement; it stood at `value`."""

    type: ClassVar[str] = "counter.reset"

    value: float = Field(ge=0)
    reason: str
