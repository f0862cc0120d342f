"""What the fault suites share: their seed."""

import pytest


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Of all that a suite draws; `--seed N` sets another."""
    return int(request.config.getoption("--seed"))
