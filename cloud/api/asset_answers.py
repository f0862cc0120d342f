"""Assets as the data API shows them: one, a page, a tree."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from cloud.assets.model import Asset, Fields, Kind


class AssetAnswer(BaseModel):
    """An asset. `sources` says of each field whether it was observed or edited; `revision` is its ETag."""

    kind: Kind
    id: str
    machine: str = Field(description="the machine that it is, or is a part of")
    fields: dict[str, Any]
    sources: dict[str, Literal["observed", "edited"]]
    revision: int
    created_at: datetime | None
    changed_at: datetime | None
    changed_by: str
    retired_at: datetime | None
    retired_why: str


class AssetPage(BaseModel):
    """Assets by kind and id. `next`: give it as `cursor` for those that follow; null at the end."""

    assets: list[AssetAnswer]
    next: str | None
    position: dict[str, int]


class AssetNode(BaseModel):
    """An asset and what is in it."""

    kind: Kind
    id: str
    fields: dict[str, Any]
    children: list["AssetNode"] = []


class AssetTree(BaseModel):
    """Sites with edges, areas, machines, their components and sensors; what has no site yet stands beside the sites."""

    assets: list[AssetNode]
    truncated: bool = Field(description="whether there are more than a tree may have: ask for lists then")
    position: dict[str, int]


class AssetDone(BaseModel):
    """What a change came to. `position` in the topic `assets` shows it; `changed` is false where it was so already."""

    asset: AssetAnswer
    position: dict[str, int]
    changed: bool


def answer(asset: Asset) -> AssetAnswer:
    """An asset in the API's words."""
    return AssetAnswer(
        kind=asset.kind,
        id=asset.id,
        machine=asset.machine,
        fields=dict(asset.fields),
        sources=dict(asset.sources),
        revision=asset.revision,
        created_at=asset.created_at,
        changed_at=asset.changed_at,
        changed_by=asset.changed_by,
        retired_at=asset.retired_at,
        retired_why=asset.retired_why,
    )


def nested(assets: Sequence[Asset]) -> list[AssetNode]:
    """The tree; an asset whose place is not there stands at the top."""
    nodes = {(a.kind, a.id): AssetNode(kind=a.kind, id=a.id, fields=dict(a.fields)) for a in assets}
    order = list(Kind)
    top: list[AssetNode] = []
    for asset in sorted(assets, key=lambda one: (order.index(one.kind), one.id)):
        above = next(
            (nodes[one] for one in _places(asset.kind, asset.machine, asset.fields) if one in nodes), None
        )
        (top if above is None else above.children).append(nodes[asset.kind, asset.id])
    return top


def _places(kind: Kind, machine: str, fields: Fields) -> list[tuple[Kind, str]]:
    """Where an asset belongs, the nearest first."""
    match kind:
        case Kind.SITE:
            return []
        case Kind.SENSOR:
            return [(Kind.COMPONENT, str(fields.get("component", ""))), (Kind.MACHINE, machine)]
        case Kind.COMPONENT:
            return [(Kind.MACHINE, machine)]
        case Kind.MACHINE:
            return [(Kind.AREA, str(fields.get("area", ""))), (Kind.SITE, str(fields.get("site", "")))]
    return [(Kind.SITE, str(fields.get("site", "")))]
