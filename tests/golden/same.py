"""Whether two dataclasses of columns hold the same values, with NaN equal to NaN and the dtypes equal."""

import dataclasses

import numpy as np

from shared.frames import Body


def same_body(a: Body, b: Body) -> bool:
    if type(a) is not type(b):
        return False
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            if (
                x.dtype != y.dtype
                or x.shape != y.shape
                or not np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
            ):
                return False
        elif x != y:
            return False
    return True
