"""What was seen of the plant, as fields of assets. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud.assets.model import FIELDS, Fields, Kind
from shared.events import EdgeStarted, Event, NodeOnline
from shared.names import is_id


@dataclass(frozen=True, slots=True)
class Sightings:
    """What there is to be seen.

    Attributes:
        assignments: Machine to the (site, edge) that speaks for it.
        series: (machine, sensor, unit) of everything that was ever stored.
        sites: Machine to the site that its frames name.
        births: Events `edge.started` and `node.online`, oldest first.
        models: (machine, manifest) of what each machine's edge is to run.
    """

    assignments: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    series: Sequence[tuple[str, str, str]] = ()
    sites: Mapping[str, str] = field(default_factory=dict)
    births: Sequence[Event] = ()
    models: Sequence[tuple[str, Mapping[str, Any]]] = ()


def assets_of(seen: Sightings) -> dict[tuple[Kind, str], Fields]:
    """Each asset that was seen with its fields, in the order in which they can be made; what is no id is left out."""
    found: dict[tuple[Kind, str], dict[str, Any]] = {}

    def note(kind: Kind, asset: str, **fields: Any) -> None:  # noqa: ANN401 - any field
        if all(is_id(part) for part in asset.split(".")):
            known = {name: value for name, value in fields.items() if _fits(kind, name, value)}
            found.setdefault((kind, asset), {}).update(known)

    for machine, site in seen.sites.items():
        note(Kind.SITE, site)
        note(Kind.MACHINE, machine, site=site)
    for machine, (site, edge) in seen.assignments.items():
        note(Kind.SITE, site)
        note(Kind.EDGE, edge, site=site)
        note(Kind.MACHINE, machine, site=site, edge=edge)
    for machine, sensor, unit in seen.series:
        note(Kind.MACHINE, machine)
        note(Kind.SENSOR, f"{machine}.{sensor}", unit=unit)
    for kind, asset, fields in _born(seen.births):
        note(kind, asset, **fields)
    for sensor, band in _bands(seen.models):
        if (Kind.SENSOR, sensor) in found:
            note(Kind.SENSOR, sensor, **band)
    order = list(Kind)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))


def _born(births: Iterable[Event]) -> Iterable[tuple[Kind, str, Fields]]:
    for event in births:
        match event:
            case EdgeStarted():
                yield Kind.EDGE, event.subject, {"software": event.software}
            case NodeOnline():
                parts = (event.group, event.node, event.device)
                yield Kind.MACHINE, event.subject, {"sparkplug": "/".join(part for part in parts if part)}


def _bands(models: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterable[tuple[str, dict[str, float]]]:
    """The range that each sensor had in training."""
    for machine, manifest in models:
        for spec in manifest.get("sensors", ()):
            low, high = spec["low"], spec["high"]
            if math.isfinite(low) and math.isfinite(high):
                yield f"{machine}.{spec['name']}", {"normal_low": float(low), "normal_high": float(high)}


def _fits(kind: Kind, name: str, value: Any) -> bool:  # noqa: ANN401 - any field
    """Whether a field takes what was seen; a unit of 300 letters is nobody's."""
    try:
        FIELDS[kind].model_validate({name: value})
    except ValueError:
        return False
    return True
