"""How many faults a suite makes: a few beside the contract suites, many at night."""

import pytest
from _pytest.mark.structures import ParameterSet

MINUTES = 60


def rounds(few: int, many: int) -> list[ParameterSet]:
    """Parameters for `faults`."""
    return [
        pytest.param(few, marks=[pytest.mark.real, pytest.mark.timeout(10 * MINUTES)]),
        pytest.param(many, marks=[pytest.mark.nightly, pytest.mark.timeout(60 * MINUTES)]),
    ]
