"""What people and sightings make of assets: commands to events. No I/O here."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from cloud.assets.fold import Look, State, merged
from cloud.assets.model import FIELDS, Asset, Fields, Kind, machine_of
from cloud.assets.port import Stale
from shared.asset_events import AssetEdited, AssetObserved, AssetRestored, AssetRetired
from shared.errors import Conflict, NotFound, Rejected
from shared.event import Event
from shared.names import check_id

SOURCE: Final = "cloud/assets"


# Who asks


@dataclass(frozen=True, slots=True)
class Ask:
    """Who asks for a change, when, under which idempotency key, and (if said) of which revision."""

    by: str
    at: datetime
    request: str
    digest: str = ""
    revision: int | None = None


def digest(*what: object) -> str:
    """The same 16 hex digits for the same request."""
    return hashlib.blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=8).hexdigest()


def done_before(state: State, ask: Ask) -> str | None:
    """The subject, if this request was carried out already. Raises Conflict (its key was used for something else)."""
    known = state.requests.get(ask.request)
    if known is None:
        return None
    if known[0] != ask.digest:
        raise Conflict("this idempotency key was used for something else")
    return known[1]


def check_revision(ask: Ask, revision: int) -> None:
    """Raises Stale."""
    if ask.revision is not None and ask.revision != revision:
        raise Stale(f"it is at revision {revision}, not {ask.revision} any more")


# Assets


def decide_creation(state: State, kind: Kind, asset: str, fields: Fields, ask: Ask) -> list[Event]:
    """An asset that nobody saw yet. Raises Conflict (there is one), Rejected."""
    if done_before(state, ask) is not None:
        return []
    if (kind, asset) in state.assets:
        raise Conflict(f"there is a {kind} {asset} already: change or restore it")
    checked = check_fields(kind, asset, fields)
    check_references(kind, asset, merged({}, checked), state.fields)
    return [edited(Asset(kind, asset), checked, ask)]


def decide_change(state: State, kind: Kind, asset: str, fields: Fields, ask: Ask) -> list[Event]:
    """Other values for some fields, null for what is observed. Raises NotFound, Stale, Conflict (retired), Rejected."""
    if done_before(state, ask) is not None:
        return []
    found = _known(state, kind, asset)
    check_revision(ask, found.revision)
    if found.retired_at is not None:
        raise Conflict(f"{kind} {asset} is retired: restore it first")
    checked = check_fields(kind, asset, fields)
    news = {name: value for name, value in checked.items() if found.edited.get(name) != value}
    check_references(kind, asset, merged(found.observed, merged(found.edited, news)), state.fields)
    return [edited(found, news, ask)] if news else []


def decide_retirement(state: State, kind: Kind, asset: str, why: str, ask: Ask) -> list[Event]:
    """Take an asset out of use, a machine with its parts. Raises NotFound, Stale, Conflict (others refer to it)."""
    if done_before(state, ask) is not None:
        return []
    found = _known(state, kind, asset)
    check_revision(ask, found.revision)
    if found.retired_at is not None:
        return []
    parts: list[Asset] = []
    if kind is Kind.MACHINE:
        parts = [a for part in (Kind.SENSOR, Kind.COMPONENT) for a in state.live(part) if a.machine == asset]
    else:
        _check_unused(state, kind, asset)
    return [*(_retired(part, why, replace(ask, digest="")) for part in parts), _retired(found, why, ask)]


def decide_restoration(state: State, kind: Kind, asset: str, ask: Ask) -> list[Event]:
    """Put a retired asset in use again. Raises NotFound, Stale, Rejected (what it refers to is not in use)."""
    if done_before(state, ask) is not None:
        return []
    found = _known(state, kind, asset)
    check_revision(ask, found.revision)
    if found.retired_at is None:
        return []
    check_references(kind, asset, found.fields, state.fields)
    return [restored(found, ask)]


def decide_observed(
    state: State, sightings: Mapping[tuple[Kind, str], Fields], now: datetime, most: int
) -> list[Event]:
    """News of what was seen, at most so many; what a person said stands above it."""
    made: list[Event] = []
    for (kind, asset), fields in sightings.items():
        found = state.assets.get((kind, asset)) or Asset(kind, asset)
        news = {name: value for name, value in fields.items() if found.observed.get(name) != value}
        if news or not found.revision:
            made.append(
                AssetObserved(
                    source=SOURCE, subject=asset, occurred_at=now,
                    kind=kind, revision=found.revision + 1, fields=news,
                )
            )  # fmt: skip
            if len(made) == most:
                break
    return made


# Checks


def check_fields(kind: Kind, asset: str, fields: Fields) -> Fields:
    """The fields as they are kept. Raises Rejected that names the first that is wrong."""
    check_asset_id(kind, asset)
    try:
        return FIELDS[kind].model_validate(dict(fields)).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        raise Rejected(first_fault(error)) from None


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong, with its place; a stranger's letters that no text may have are replaced."""
    first = error.errors(include_url=False)[0]
    text = f"{'.'.join(str(part)[:60] for part in first['loc'])}: {first['msg']}"
    return text.encode("utf-8", "replace").decode()


def check_asset_id(kind: Kind, asset: str) -> None:
    """Raises Rejected."""
    parts = asset.split(".")
    if len(parts) != (2 if kind in {Kind.COMPONENT, Kind.SENSOR} else 1):
        raise Rejected(f"{asset[:90]!r} is no {kind}'s id: use {_SHAPES.get(kind, 'NAME')}")
    for part in parts:
        check_id(part, kind)


_SHAPES: Final = {Kind.COMPONENT: "MACHINE.NAME", Kind.SENSOR: "MACHINE.NAME"}


def check_references(kind: Kind, asset: str, fields: Fields, look: Look) -> None:
    """What an asset refers to is in use, and its bounds are in order. Raises Rejected."""
    machine = machine_of(kind, asset) if kind is not Kind.MACHINE else ""
    named = [(Kind.MACHINE, machine)] if machine else []
    named += [(one, str(fields[one])) for one in _REFERENCES if one in fields]
    for one, name in named:
        if look(one, name) is None:
            raise Rejected(f"{one}: there is no {one} {name!r} in use")
    if kind is Kind.SENSOR and not str(fields.get("component", asset)).startswith(f"{machine}."):
        raise Rejected(f"component: {fields['component']!r} is no part of {machine}")
    area = look(Kind.AREA, str(fields["area"])) if kind is Kind.MACHINE and "area" in fields else None
    if area is not None and "site" in area and fields.get("site", area["site"]) != area["site"]:
        raise Rejected(f"area: {fields['area']!r} is in site {area['site']!r}, not {fields['site']!r}")
    for low, high in (("range_low", "range_high"), ("normal_low", "normal_high")):
        if low in fields and high in fields and fields[low] > fields[high]:
            raise Rejected(f"{low}: {fields[low]:g} is above {high}, {fields[high]:g}")


_REFERENCES: Final = (Kind.SITE, Kind.AREA, Kind.EDGE, Kind.COMPONENT)


def _check_unused(state: State, kind: Kind, asset: str) -> None:
    users = [a for one in Kind for a in state.live(one) if a.fields.get(kind) == asset and a.kind != kind]
    if users:
        raise Conflict(f"{users[0].kind} {users[0].id} refers to {kind} {asset}: change or retire it first")


def _known(state: State, kind: Kind, asset: str) -> Asset:
    found = state.assets.get((kind, asset))
    if found is None:
        raise NotFound(f"there is no {kind} {asset[:90]!r}")
    return found


# Events


def edited(asset: Asset, fields: Fields, ask: Ask) -> AssetEdited:
    """The next event of an asset whose fields a person changed."""
    return AssetEdited(
        source=SOURCE, subject=asset.id, occurred_at=ask.at, correlation_id=ask.request,
        kind=asset.kind, revision=asset.revision + 1, by=ask.by, request=ask.digest, fields=dict(fields),
    )  # fmt: skip


def _retired(asset: Asset, why: str, ask: Ask) -> AssetRetired:
    return AssetRetired(
        source=SOURCE, subject=asset.id, occurred_at=ask.at, correlation_id=ask.request,
        kind=asset.kind, revision=asset.revision + 1, by=ask.by, request=ask.digest, why=why,
    )  # fmt: skip


def restored(asset: Asset, ask: Ask) -> AssetRestored:
    """The next event of an asset that is in use again."""
    return AssetRestored(
        source=SOURCE, subject=asset.id, occurred_at=ask.at, correlation_id=ask.request,
        kind=asset.kind, revision=asset.revision + 1, by=ask.by, request=ask.digest,
    )  # fmt: skip
