"""Line protocol straight from columns: numbers are formatted in bulk, and no object is made for a point.

Each column becomes fixed-width cells padded with zero bytes, the cells of a line stand beside each other in one
array, and one pass takes the padding out.
"""

from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

Cells = NDArray[np.bytes_]

_COMMA: Final = ord(",")
_SPECIAL: Final = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ ", "\n": "\\n"})


def prefix(measurement: str, **tags: str) -> bytes:
    """What a series' lines begin with."""
    parts = [measurement, *(f"{name}={value.translate(_SPECIAL)}" for name, value in sorted(tags.items()))]
    return ",".join(parts).encode()


def cells(column: NDArray[Any]) -> Cells:
    """Numbers as text, the shortest that gives the same number back."""
    text = np.frombuffer(
        orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY), np.uint8
    )
    digits = text[1:-1]
    commas = digits == _COMMA
    ends = np.append(np.flatnonzero(commas), len(digits))
    lengths = np.diff(ends, prepend=-1) - 1
    width = int(lengths.max())
    table = np.zeros((len(column), width), np.uint8)
    table[np.arange(width) < lengths[:, None]] = digits[~commas]
    return table.view(f"S{width}").ravel()


def lines(parts: list[Cells | bytes]) -> bytes:
    """Lines of cells and constants, in their order; at least one part is cells, and all have as many."""
    rows = max(len(part) for part in parts if isinstance(part, np.ndarray))
    kinds = [part.dtype if isinstance(part, np.ndarray) else np.dtype(f"S{len(part)}") for part in parts]
    names = [f"f{number}" for number in range(len(parts))]
    table = np.empty(rows, np.dtype(list(zip(names, kinds, strict=True))))
    for name, part in zip(names, parts, strict=True):
        table[name] = part
    return table.tobytes().translate(None, b"\0")
