"""The table of units."""

import pytest

from shared.errors import Rejected
from shared.units import UNITS, check_unit, convert


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (100.0, "degC", "K", 373.15),
        (212.0, "degF", "degC", 100.0),
        (1.0, "bar", "kPa", 100.0),
        (60.0, "l/min", "m3/h", 3.6),
        (1.0, "t/h", "kg/h", 1000.0),
        (3000.0, "rpm", "Hz", 50.0),
        (1.0, "g", "m/s2", 9.80665),
        (50.0, "%", "1", 0.5),
        (7.0, "dB", "dB", 7.0),
    ],
)
def test_conversion(value: float, source: str, target: str, expected: float) -> None:
    assert convert(value, source, target) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", sorted(UNITS))
def test_every_unit_converts_to_the_first_of_its_dimension_and_back(name: str) -> None:
    base = next(other for other, unit in UNITS.items() if unit.dimension == check_unit(name).dimension)
    assert convert(convert(12.5, name, base), base, name) == pytest.approx(12.5, rel=1e-12)


def test_an_unknown_unit_is_named() -> None:
    with pytest.raises(Rejected, match="unknown unit 'furlong'"):
        check_unit("furlong")
    with pytest.raises(Rejected, match="unknown unit 'furlong'"):
        convert(1.0, "furlong", "furlong")


def test_another_dimension_is_refused() -> None:
    with pytest.raises(Rejected, match="'bar' is a pressure and 'degC' a temperature"):
        convert(1.0, "bar", "degC")
