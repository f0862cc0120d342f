"""What the edge takes: megabytes on disk of `industrialmind[edge]`, of memory of an idle agent, and of a model's trial.

The extra is installed into a temporary virtual environment at the lock's versions, its bytecode compiled as pip
does, and the agent that is measured runs from there, beside a real nats-server, with no device. Prints both with their bounds; exits 1 above one.
The child that tries a new model out runs from there too; what it takes for a moment has no bound.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from cloud.training.logic import Config, Recording, fit
from industrialmind.children import to_toml
from industrialmind.embedded import EmbeddedNats
from industrialmind.grants import EdgeScope
from shared.loaded import TRIAL_BYTES, prove
from shared.supervise import free_ports

DISK_BOUND_MB = 220
MEMORY_BOUND_MB = 110
IDLE_SECONDS = 10.0
# A process' peak counts that of whoever forked it, so somebody small does.
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdin=sys.stdin, stdout=subprocess.DEVNULL, env={"OMP_NUM_THREADS": "1"}, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
ROOT = Path(__file__).resolve().parent.parent


def install(folder: Path) -> Path:
    """The extra in an environment of its own; returns its Python."""
    uv = str(Path(sys.executable).parent / "uv")
    pins = re.sub(r"(?m)^\s+--hash=.*$|\\$", "", (ROOT / "requirements.lock").read_text(encoding="utf-8"))
    constraints = folder / "constraints.txt"
    constraints.write_text(pins, encoding="utf-8")
    environment = folder / "edge"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [
            *(uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)),
            *("--constraint", str(constraints), f"{ROOT}[edge]"),
        ],
        check=True,
    )
    return python


def megabytes(folder: Path) -> float:
    """Size of all files below `folder`."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def idle_memory(python: Path, folder: Path) -> float:
    """RSS in MB of an agent that is connected and has nothing to do."""
    scope = EdgeScope("bench", "edge-bench", ("machine-bench",))
    nats_port, mqtt_port = free_ports(2)
    nats = EmbeddedNats(folder / "data", [scope], nats_port=nats_port, mqtt_port=mqtt_port)
    nats.write_config()
    account = nats.credentials(scope.edge)
    link = {"url": nats.mqtt_url, "username": account.name, "password": account.password}
    settings = {
        "site": scope.site,
        "edge": scope.edge,
        "machines": list(scope.machines),
        "folder": str(folder / "agent"),
        "nats_url": nats.nats_url,
        "credentials": account.userinfo,
        "devices": {**link, "client_id": f"{account.client_id}-devices"},
        "uplink": {**link, "client_id": f"{account.client_id}-uplink"},
    }
    config = folder / "edge.toml"
    config.write_text(to_toml({"edge": settings}), encoding="utf-8")
    with (folder / "logs").open("wb") as log:
        server = subprocess.Popen(nats.command(), stdout=log, stderr=log)
        agent = subprocess.Popen(
            [str(python), "-m", "industrialmind", "edge", "run", "--config", str(config)],
            stdout=log,
            stderr=log,
            cwd=folder,
        )
        try:
            time.sleep(IDLE_SECONDS)  # idle is a state that lasts
            if agent.poll() is not None:
                raise RuntimeError((folder / "logs").read_text(encoding="utf-8"))
            return psutil.Process(agent.pid).memory_info().rss / 1e6
        finally:
            agent.terminate()
            agent.wait(15)
            server.terminate()
            server.wait(15)


def trial(python: Path, folder: Path) -> tuple[float, float]:
    """Peak RSS in MB and seconds of a child that tries a small model out, as an edge has it done."""
    times = np.arange(3000) * 1_000_000
    table = np.random.default_rng(0).normal(size=(len(times), 4))
    recording = Recording(times, ("a", "b", "c", "d"), ("",) * 4, table)
    model = folder / "model.zip"
    model.write_bytes(
        fit(recording, machine="machine-bench", machine_type="any", now_us=int(times[-1]), config=Config())
    )
    command = [
        str(python),
        "-I",
        "-m",
        "shared.trial",
        f"{prove.__module__}:{prove.__name__}",
        str(TRIAL_BYTES),
    ]
    begun = time.monotonic()
    with model.open("rb") as data:
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *command], stdin=data, capture_output=True, text=True, check=True
        )
    return int(done.stdout) * 1024 / 1e6, time.monotonic() - begun


def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="edge-size-") as scratch:
        folder = Path(scratch)
        python = install(folder)
        disk = megabytes(folder / "edge")
        memory = idle_memory(python, folder)
        peak, seconds = trial(python, folder)
    print(f"edge extra installed: {disk:.0f} MB (bound {DISK_BOUND_MB} MB)")
    print(f"edge agent idle: {memory:.0f} MB RSS (bound {MEMORY_BOUND_MB} MB)")
    print(f"a model's trial: {peak:.0f} MB for {seconds:.1f} s, in a child")
    return int(disk > DISK_BOUND_MB or memory > MEMORY_BOUND_MB)


if __name__ == "__main__":
    sys.exit(main())
