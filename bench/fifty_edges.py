"""Fifty edge agents at once on this machine, fed at a steady rate through a real broker, a gateway and the log.

Prints what an agent takes of memory and processor, and whether every reading reached the log. Exits 1 if one did not.

Run: PYTHONPATH=. python bench/fifty_edges.py [AGENTS] [SECONDS]
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench.edges.plant import Running, running

AGENTS = 50
SECONDS = 60.0
SENSORS = 4
EVERY_S = 1.0


async def feed(plant: Running, seconds: float) -> int:
    """Readings at a steady pace; how many."""
    sent, started, tick = 0, time.monotonic(), 0
    while (due := started + tick * EVERY_S) < started + seconds:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        sent += await plant.publish(tick, SENSORS)
        tick += 1
    return sent


async def measure(agents: int, seconds: float) -> int:
    """Run and print; the exit code."""
    with tempfile.TemporaryDirectory(prefix="fifty-edges-") as folder:
        began = time.monotonic()
        async with running(Path(folder) / "data", agents) as plant:
            print(f"{agents} agents listen {time.monotonic() - began:.1f} s after the first one's start")
            processes = {machine.edge: plant.process(machine.edge) for machine in plant.machines}
            before = {name: _used(process) for name, process in processes.items()}
            started = time.monotonic()
            sent = await feed(plant, seconds)
            took = time.monotonic() - started
            cpu = [100 * (_used(process) - before[name]) / took for name, process in processes.items()]
            memory = [process.memory_full_info() for process in processes.values()]
            found = await plant.logged(sent)
            restarts = sum(plant.supervisor.restarts().values())
    rss, own = sorted(one.rss / 1e6 for one in memory), sorted(one.pss / 1e6 for one in memory)
    middle = agents // 2
    print(f"{sent} readings in {took:.0f} s ({sent / took:.0f}/s), {found} in the log, {restarts} restarts")
    print(f"RSS an agent: median {rss[middle]:.0f} MB, most {rss[-1]:.0f} MB")
    print(f"PSS an agent: median {own[middle]:.0f} MB, together {sum(own):.0f} MB")
    print(f"processor an agent: median {sorted(cpu)[middle]:.1f} %, together {sum(cpu):.0f} %")
    return int(found != sent or restarts > 0)


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> int:
    """Measure with the arguments."""
    agents = int(sys.argv[1]) if len(sys.argv) > 1 else AGENTS
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else SECONDS
    return asyncio.run(measure(agents, seconds))


if __name__ == "__main__":
    sys.exit(main())
