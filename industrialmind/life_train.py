"""`industrialmind life train`: from units that ran to failure, in a file or in the store, to a registered model.

It registers under the trainer's lock, as a trainer does: the run in MLflow is whole before the log has the model. MLflow may be
away all the same: the model is what took the time, and whoever reconciles next makes its run of what the log has.
"""

import getpass
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud.registry.app import register_life
from cloud.telemetry.facts import HOUR_US
from industrialmind.embedded import account_of
from industrialmind.plant import DataDir, Machine
from industrialmind.train_settings import TrainSettings
from industrialmind.trainees import described
from industrialmind.trainer_job import trainer_lock
from shared.clock import Clock
from shared.errors import IndustrialMindError, Misconfigured, NotFound, Unavailable, lacking
from shared.eventlog import EventLog, open_event_log
from shared.nats import ControlPlane, open_control

if TYPE_CHECKING:
    from cloud.life.manifest import RunningRule
    from cloud.life.runs import Runs
    from cloud.training.mlflow.runs import FitRun
    from industrialmind.life_histories import Histories
    from industrialmind.train_follow import Followers, Tell
    from shared.windows import Floats


@dataclass(frozen=True)
class LifeTrained:
    """What came of it: `machines` to the version that is registered; `telling` = those whose life it tells from now on.

    `not_in_mlflow`: why MLflow does not have it yet, empty where it has.
    """

    version_hash: str
    machines: dict[str, int]
    telling: tuple[str, ...]
    units: int
    running_units: int
    knee_hours: float | None
    provisional: bool
    metrics: dict[str, float]
    not_in_mlflow: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def __str__(self) -> str:
        knee = "no knee" if self.knee_hours is None else f"knee at {self.knee_hours:.4g} h"
        more = f" and {self.running_units} that had not failed" if self.running_units else ""
        lines = [f"life model {self.version_hash[:12]}: {self.units} units that ran to failure{more}, {knee}"]
        lines += [
            f"{machine}: version {version}"
            + (", tells its remaining life" if machine in self.telling else "")
            for machine, version in self.machines.items()
        ]
        if self.provisional:
            lines.append("note: provisional, too few units for an honest 95 % interval")
        if self.not_in_mlflow:
            lines.append(
                f"note: registered, and not yet in MLflow: {self.not_in_mlflow}; industrialmind up brings it there by itself, "
                "on servers industrialmind train --reconcile does"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Wish:
    """What a person says of a model to come. `cap`: as for `rul`; `rounds`: of each tree ensemble, None for the usual."""

    machines: tuple[str, ...]
    failure: str
    load: str
    cycle_hours: float = 1.0
    cap: float | None = None
    seed: int = 0
    rounds: int | None = None
    running: "RunningRule | None" = None


@dataclass(frozen=True)
class LifeFit:
    """A fitted model, and what its manifest does not say of the fit: its settings, and the lives that it saw."""

    artifact: bytes
    parameters: Mapping[str, str | int | float]


def fit_life(
    found: "Runs",
    wish: Wish,
    clock: Clock,
    *,
    running: "Floats | None" = None,
    tell: Callable[[int, int], None] | None = None,
) -> LifeFit:
    """Of units that failed and ages of some that did not. Raises Misconfigured (the train extra is missing), Rejected."""
    try:
        from cloud.life.logic import Config  # noqa: PLC0415 - seconds, and only trainers need it
        from cloud.life.training import Terms, train_life  # noqa: PLC0415 - the same
    except ModuleNotFoundError as error:
        raise lacking(error, "train") from error
    terms = Terms(
        wish.machines,
        wish.failure,
        wish.load,
        round(wish.cycle_hours * HOUR_US),
        getpass.getuser(),
        wish.running,
    )
    config = Config(cap=wish.cap, seed=wish.seed)
    if wish.rounds is not None:
        config = replace(config, rounds=wish.rounds)
    artifact = train_life(found, terms, config, clock.now_us(), tell, running)
    cap = "auto" if wish.cap is None else wish.cap
    lives = {
        "data.shortest_life_hours": float(found.lives.min()) * wish.cycle_hours,
        "data.longest_life_hours": float(found.lives.max()) * wish.cycle_hours,
    }
    return LifeFit(artifact, {**asdict(config), "cap": cap, **lives})


async def histories_of(
    root: Path, on_servers: TrainSettings | None, wish: Wish, *, codes: Sequence[str], from_new: bool
) -> "Histories":
    """Run-to-failure histories of the wish's machines from the store. Raises Rejected (too few), Unavailable, Misconfigured."""
    from cloud.telemetry.port import open_store  # noqa: PLC0415 - as the others
    from industrialmind.life_histories import read_histories  # noqa: PLC0415 - the same
    from industrialmind.repairs import Repairs  # noqa: PLC0415 - the same

    async with AsyncExitStack() as stack:
        access = await stack.enter_async_context(_open(root, on_servers))
        store = await stack.enter_async_context(
            open_store(DataDir(root).telemetry_url, read_only=True)
            if on_servers is None
            else open_store(on_servers.telemetry_url, read_only=True, access=on_servers.telemetry_access)
        )
        return await read_histories(
            store,
            Repairs(access.events),
            wish.machines,
            codes=codes,
            from_new=from_new,
            running=wish.running,
        )


@dataclass(frozen=True)
class _Access:
    """A plant's log and control plane; `run`: what the running plant says of itself, of servers nothing."""

    events: EventLog
    control: ControlPlane
    run: Mapping[str, Any]


@asynccontextmanager
async def _open(root: Path, on_servers: TrainSettings | None) -> AsyncIterator[_Access]:
    """Of the running plant, or of servers of their own. Raises Unavailable, Misconfigured."""
    if on_servers is None:
        data = DataDir(root)
        run = data.running()
        if run is None:
            raise Unavailable(f"no plant is running on {data.root}: start it with industrialmind up")
        credentials = account_of(data.root, "cloud").userinfo
        log_url, log_credentials = data.plant().log_access(run["nats"], credentials)
        nats_url, tls = run["nats"], None
    else:
        run = {}
        log_url, log_credentials = on_servers.log
        nats_url, credentials = on_servers.nats_url, on_servers.credentials.get_secret_value()
        tls = on_servers.tls.open()
    async with (
        open_event_log(log_url, credentials=log_credentials, tls=tls) as events,
        open_control(nats_url, credentials=credentials, tls=tls) as control,
    ):
        yield _Access(events, control, run)


def machines_of(
    root: Path, on_servers: TrainSettings | None, machines: Sequence[str], kind: str
) -> list[Machine]:
    """Those named, or all of a type as the plant's file or the settings have them. Raises NotFound, Misconfigured."""
    known = (
        DataDir(root).plant().machines
        if on_servers is None
        else [described(one) for one in on_servers.machines]
    )
    if kind:
        found = [each for each in known if each.type == kind]
        if not found:
            types = ", ".join(sorted({each.type for each in known}))
            raise NotFound(f"no machine is of type {kind!r}: there are {types}")
        return found
    by_id = {each.id: each for each in known}
    return [by_id.get(name, Machine(name, "")) for name in machines]


def running_rule(given: str, machines: Sequence[Machine]) -> "RunningRule | None":
    """SENSOR:OFF as given, else what the plant says of all these machines alike. Raises Misconfigured."""
    from cloud.life.manifest import RunningRule  # noqa: PLC0415 - as the others

    if given:
        sensor, _, off = given.rpartition(":")
        try:
            return RunningRule(sensor=sensor, off=float(off))
        except ValueError as error:
            raise Misconfigured(
                f"{given!r} does not say when a machine runs", hint="SENSOR:OFF, as speed:150"
            ) from error
    said = {(each.operating_sensor, each.off) for each in machines}
    sensor, limit = next(iter(said)) if len(said) == 1 else ("", None)
    return RunningRule(sensor=sensor, off=limit) if sensor and limit is not None else None


async def register_fitted(
    root: Path, on_servers: TrainSettings | None, fit: LifeFit, clock: Clock, tell: "Tell", *, deliver: bool
) -> LifeTrained:
    """Register on the running plant, or on servers of their own, once no trainer works; `tell` of each step.

    Raises Unavailable (not for MLflow), Conflict, Misconfigured.
    """
    from cloud.life.artifact import load_life  # noqa: PLC0415 - loads onnxruntime
    from cloud.training.mlflow.runs import life_run  # noqa: PLC0415 - as the others
    from industrialmind.train_follow import Followers, place_of, place_on  # noqa: PLC0415 - the same

    loaded = load_life(fit.artifact)
    manifest = loaded.manifest
    plain = manifest.model_dump(mode="json")
    data = DataDir(root if on_servers is None else on_servers.folder)
    async with trainer_lock(data, lambda: tell({"event": "waiting"})), _open(root, on_servers) as access:
        place = place_of(data, access.run) if on_servers is None else place_on(on_servers)
        followers = Followers(data, place, access.events, access.control, clock, tell)
        missed = await _missed(lambda: _logged(followers, life_run(fit.artifact, plain, fit.parameters)))
        tell({"event": "step", "machine": "", "step": "register", "method": ""})
        models = await register_life(
            access.events, access.control, fit.artifact, plain, clock, deliver=deliver
        )
        missed = missed or await _missed(followers.reconcile)
    return LifeTrained(
        loaded.version_hash,
        {model.machine: model.version for model in models},
        tuple(model.machine for model in models if model.promoted_to),
        manifest.units,
        manifest.running_units,
        None if manifest.knee is None else manifest.knee * manifest.cycle_us / HOUR_US,
        manifest.provisional,
        manifest.metrics,
        missed,
    )


async def _logged(followers: "Followers", run: "FitRun") -> None:
    await followers.begin()
    await followers.log_run(run)


async def _missed(write: Callable[[], Awaitable[None]]) -> str:
    """Why what MLflow was to be told did not come there, whatever it was; empty if it did."""
    try:
        await write()
    except IndustrialMindError as error:
        return str(error)
    return ""
