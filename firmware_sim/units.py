"""The units that simulated machines publish, as the edge's unit table spells them."""

from typing import Final

DEGREE_CELSIUS: Final = "degC"
BAR: Final = "bar"
MILLIBAR: Final = "mbar"
PASCAL: Final = "Pa"
LITRE_PER_MINUTE: Final = "l/min"
CUBIC_METRE_PER_HOUR: Final = "m3/h"
TONNE_PER_HOUR: Final = "t/h"
AMPERE: Final = "A"
KILOWATT: Final = "kW"
MILLIMETRE_PER_SECOND: Final = "mm/s"
RPM: Final = "rpm"
NEWTON_METRE: Final = "Nm"
PERCENT: Final = "%"
DIMENSIONLESS: Final = "1"
