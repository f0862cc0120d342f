"""`industrialmind life train`: from a file of units that ran to failure to a registered model that tells remaining life."""

import getpass
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cloud.registry.app import register_life
from industrialmind.embedded import account_of
from industrialmind.plant import DataDir
from industrialmind.run_table import read_runs
from industrialmind.train_settings import TrainSettings
from shared.clock import Clock
from shared.errors import Misconfigured, Unavailable
from shared.eventlog import open_event_log
from shared.nats import open_control

HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True)
class LifeTrained:
    """What came of it: `machines` to the version that is registered; `telling` = those whose life it tells from now on."""

    version_hash: str
    machines: dict[str, int]
    telling: tuple[str, ...]
    units: int
    knee_hours: float | None
    provisional: bool
    metrics: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def __str__(self) -> str:
        knee = "no knee" if self.knee_hours is None else f"knee at {self.knee_hours:.4g} h"
        lines = [f"life model {self.version_hash[:12]}: {self.units} units that ran to failure, {knee}"]
        lines += [
            f"{machine}: version {version}"
            + (", tells its remaining life" if machine in self.telling else "")
            for machine, version in self.machines.items()
        ]
        if self.provisional:
            lines.append("note: provisional, too few units for an honest 95 % interval")
        return "\n".join(lines)


def fit_life(
    train: Path,
    machines: Sequence[str],
    *,
    failure: str,
    load: str,
    cycle_hours: float,
    cap: float | None,
    seed: int,
    clock: Clock,
    rounds: int | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> bytes:
    """The artifact. Raises Misconfigured (the train extra is missing), Rejected (the file)."""
    try:
        from cloud.life.logic import Config  # noqa: PLC0415 - seconds, and only trainers need it
        from cloud.life.training import Terms, train_life  # noqa: PLC0415 - the same
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"training needs {error.name}, which is not installed", hint="install industrialmind[train]"
        ) from error
    terms = Terms(tuple(machines), failure, load, round(cycle_hours * HOUR_US), getpass.getuser())
    config = Config(cap=cap, seed=seed) if rounds is None else Config(cap=cap, seed=seed, rounds=rounds)
    return train_life(read_runs(train), terms, config, clock.now_us(), tell)


async def register_fitted(
    root: Path, on_servers: TrainSettings | None, artifact: bytes, clock: Clock, *, deliver: bool
) -> LifeTrained:
    """Register on the running plant, or on servers of their own. Raises Unavailable, Conflict, Misconfigured."""
    from cloud.life.artifact import load_life  # noqa: PLC0415 - loads onnxruntime

    loaded = load_life(artifact)
    manifest = loaded.manifest
    async with AsyncExitStack() as stack:
        if on_servers is None:
            data = DataDir(root)
            run = data.running()
            if run is None:
                raise Unavailable(f"no plant is running on {data.root}: start it with industrialmind up")
            credentials = account_of(data.root, "cloud").userinfo
            log_url, log_credentials = data.plant().log_access(run["nats"], credentials)
            nats_url, tls = run["nats"], None
        else:
            log_url, log_credentials = on_servers.log
            nats_url, credentials = on_servers.nats_url, on_servers.credentials.get_secret_value()
            tls = on_servers.tls.open()
        events = await stack.enter_async_context(
            open_event_log(log_url, credentials=log_credentials, tls=tls)
        )
        control = await stack.enter_async_context(open_control(nats_url, credentials=credentials, tls=tls))
        models = await register_life(
            events, control, artifact, manifest.model_dump(mode="json"), clock, deliver=deliver
        )
    return LifeTrained(
        loaded.version_hash,
        {model.machine: model.version for model in models},
        tuple(model.machine for model in models if model.promoted_to),
        manifest.units,
        None if manifest.knee is None else manifest.knee * manifest.cycle_us / HOUR_US,
        manifest.provisional,
        manifest.metrics,
    )
