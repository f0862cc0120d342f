"""An agent over a long time: its memory does not grow, its files stay under the cap, and every reading reaches the log.

Three minutes of it run with the tests of real servers, two hours in the nightly suites.
"""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from bench.edges.plant import Running, running
from edge.outbox import DEFAULT_MAX_BYTES

SENSORS = 5
EVERY_S = 0.25
WARM_SHARE = 1 / 3
"""Of the time: until then caches fill, and libraries load on first use."""
NOISE_BYTES = 2e6
"""What an allocator keeps or gives back from one look to the next, in pages it does not own for good."""


async def fed(plant: Running, seconds: float) -> tuple[int, list[tuple[float, float]], int]:
    """Feed for so long: readings sent, (seconds, RSS) of the agent, and the most bytes in its folder."""
    (machine,) = plant.machines
    process, folder = plant.process(machine.edge), plant.data.edge(machine.edge)
    sent, most, tick = 0, 0, 0
    looks: list[tuple[float, float]] = []
    started = time.monotonic()
    while (due := tick * EVERY_S) < seconds:
        await asyncio.sleep(max(0.0, started + due - time.monotonic()))
        sent += await plant.publish(tick, SENSORS)
        if tick % 8 == 0:
            looks.append((time.monotonic() - started, float(process.memory_info().rss)))
            most = max(most, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
        tick += 1
    return sent, looks, most


def growth(looks: list[tuple[float, float]]) -> tuple[float, float]:
    """Bytes that the fitted line rises by over the time after the warm-up, and two standard errors of that."""
    times, sizes = np.array([look for look in looks if look[0] > looks[-1][0] * WARM_SHARE]).T
    span = float(times[-1] - times[0])
    slope, level = np.polyfit(times, sizes, 1)
    rest = sizes - (slope * times + level)
    spread = float(np.sqrt((rest**2).sum() / (len(times) - 2) / ((times - times.mean()) ** 2).sum()))
    return float(slope) * span, 2 * spread * span


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(180.0, marks=[pytest.mark.real, pytest.mark.e2e, pytest.mark.timeout(400)]),
        pytest.param(7200.0, marks=[pytest.mark.nightly, pytest.mark.timeout(7600)]),
    ],
)
async def test_memory_and_files_stay_bounded(tmp_path: Path, seconds: float) -> None:
    async with running(tmp_path / "data", 1) as plant:
        sent, looks, most = await fed(plant, seconds)
        assert await plant.logged(sent) == sent
        assert sum(plant.supervisor.restarts().values()) == 0
    rise, noise = growth(looks)
    told = f"{rise / 1e6:+.2f} MB (± {noise / 1e6:.2f}) over {len(looks)} looks, at last {looks[-1][1] / 1e6:.0f} MB"
    print(f"{sent} readings in {seconds:.0f} s; RSS {told}; files at most {most / 1e6:.2f} MB")  # noqa: T201 - pytest -s
    assert rise <= noise + NOISE_BYTES, told
    assert most <= DEFAULT_MAX_BYTES
