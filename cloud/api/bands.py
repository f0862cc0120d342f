"""The normal band and range that people gave a sensor, in the unit of its readings."""

from collections.abc import Mapping
from typing import Any, Final

from cloud.assets.model import Asset, Kind
from cloud.assets.port import AssetReader, Wanted
from shared.errors import Rejected
from shared.units import convert

MAX_SENSORS: Final = 1000
_NAMES: Final = {
    "normal_low": "low",
    "normal_high": "high",
    "range_low": "range_low",
    "range_high": "range_high",
}


async def people_s_bands(
    assets: AssetReader | None, machine: str, units: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Sensor to those of `low`, `high`, `range_low` and `range_high` that a person set. Raises Unavailable."""
    if assets is None:
        return {}
    page = await assets.assets(Wanted(Kind.SENSOR, machine=machine), ("", ""), MAX_SENSORS)
    named = ((asset.id.partition(".")[2], asset) for asset in page.items)
    return {name: _band(asset, units[name]) for name, asset in named if name in units}


def with_words(band: Mapping[str, Any], said: Mapping[str, float]) -> dict[str, Any]:
    """A model's band with what a person said on top; whoever says both ends knows the band."""
    merged = {**band, "range_low": None, "range_high": None, **said}
    if said.keys() & {"low", "high"} and None not in (merged["low"], merged["high"]):
        merged["learnt"] = True
    return merged


def _band(asset: Asset, unit: str) -> dict[str, float]:
    own = str(asset.fields.get("unit", unit))
    found: dict[str, float] = {}
    for field, name in _NAMES.items():
        value = asset.edited.get(field)
        if value is None:
            continue
        try:
            found[name] = float(value) if own == unit else convert(float(value), own, unit)
        except Rejected:  # units that can't be compared: nobody's band here
            continue
    return found
