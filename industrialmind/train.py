"""The trainer: fit, log, register and deliver, machine by machine, each delivered before the next is fitted.

Whatever follows the fit can be repeated or derived from the log's `models` topic. `Followers.reconcile` does so: it
brings the edges' desired state and MLflow to what the log says, at the end of each job and before its first writing
into MLflow. So a trainer that is killed at any step leaves nothing that the next one does not mend.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.registry.app import decide_for, deliver, load_registry, register
from cloud.registry.logic import Model, Registry
from cloud.telemetry.port import BEGIN_US, TelemetryReader, open_store
from cloud.training.app import SETTLED_US, train_machine_models
from cloud.training.contest import Outcome
from cloud.training.history import Past, judged_out
from cloud.training.mlflow.runs import anomaly_run
from cloud.training.mlflow.tracking import Place
from cloud.training.run import Choice, read_choice
from cloud.training.tensorboard import tensorboard_watch
from cloud.training.trained import Candidate, Trained
from cloud.training.triggers import Action, Policy
from cloud.training.watch import Together, Watch
from cloud.training.weights_and_biases import wandb_watch
from industrialmind.embedded import account_of
from industrialmind.plant import DataDir
from industrialmind.retrain import Heard, Retraining, hear
from industrialmind.train_begun import Begun, Order, begun
from industrialmind.train_follow import Followers, Tell, place_of, place_on
from industrialmind.train_settings import TrainSettings
from industrialmind.train_watch import TellingWatch
from industrialmind.trainees import Trainee, choose, described, trainees
from industrialmind.trainer_job import Job, trainer_lock
from shared.artifact import sha256
from shared.clock import Clock, SystemClock
from shared.errors import Rejected, Unavailable
from shared.eventlog import EventLog, open_event_log
from shared.nats import ControlPlane, open_control


async def run_job(root: Path, job: Job, tell: Tell, policy: Policy | None = None) -> None:
    """Do a job on a running plant, once no other trainer works, and `tell` of each step.

    Raises NotFound (machine), Unavailable, Misconfigured (the train extra is missing), and Rejected after the last
    machine, with those that there is no model for.
    """
    data, choice = DataDir(root), read_choice(job.models, job.settings, job.search)
    if data.running() is None:
        raise Unavailable(f"no plant is running on {data.root}: start it with industrialmind up")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(trainer_lock(data, lambda: tell({"event": "waiting"})))
        run = data.running()
        if run is None:
            raise Unavailable(f"the plant on {data.root} stopped meanwhile")
        credentials = account_of(data.root, "cloud").userinfo
        store = await stack.enter_async_context(open_store(data.telemetry_url, read_only=True))
        stored = {series.machine for series in await store.series()} if job.machines else set()
        machines = choose(data.plant().machines, job.machines, stored)
        log_url, log_credentials = data.plant().log_access(run["nats"], credentials)
        events = await stack.enter_async_context(open_event_log(log_url, credentials=log_credentials))
        control = await stack.enter_async_context(open_control(run["nats"], credentials=credentials))
        task = Task(job, choice, policy or Policy())
        trainer = _Trainer(data, place_of(data, run), store, events, control, SystemClock(), tell, task)
        await trainer.run(trainees(machines, await control.assignments()))


async def run_job_on(settings: TrainSettings, job: Job, tell: Tell, policy: Policy | None = None) -> None:
    """The same on servers of their own. Raises NotFound (machine), Unavailable, Misconfigured, Rejected."""
    data, choice = DataDir(settings.folder), read_choice(job.models, job.settings, job.search)
    machines = choose([described(one) for one in settings.machines], job.machines)
    log_url, log_credentials = settings.log
    tls = settings.tls.open()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(trainer_lock(data, lambda: tell({"event": "waiting"})))
        store = await stack.enter_async_context(
            open_store(settings.telemetry_url, read_only=True, access=settings.telemetry_access)
        )
        events = await stack.enter_async_context(
            open_event_log(log_url, credentials=log_credentials, tls=tls)
        )
        control = await stack.enter_async_context(
            open_control(settings.nats_url, credentials=settings.credentials.get_secret_value(), tls=tls)
        )
        task = Task(job, choice, policy or Policy(), clusters=settings.operating_states == "clusters")
        trainer = _Trainer(data, place_on(settings), store, events, control, SystemClock(), tell, task)
        await trainer.run(trainees(machines, await control.assignments()))


@dataclass(frozen=True, slots=True)
class Task:
    """A job, with what was read of it, and what the plant says of training.

    Attributes:
        job: What is to be done.
        choice: Methods and settings, as the job names them.
        policy: When training is due, and what is looked at.
        clusters: Models judge at set-points only (`train.operating_states`).
    """

    job: Job
    choice: Choice
    policy: Policy
    clusters: bool = False


class _Trainer:
    """A job at work; it holds the lock."""

    def __init__(
        self,
        data: DataDir,
        place: Place,
        store: TelemetryReader,
        events: EventLog,
        control: ControlPlane,
        clock: Clock,
        tell: Tell,
        task: Task,
    ) -> None:
        self._data = data
        self._store, self._events, self._control = store, events, control
        self._clock, self._tell = clock, tell
        self._task = task
        self._followers = Followers(data, place, events, control, clock, tell)

    async def run(self, machines: Sequence[Trainee]) -> None:
        """Train, then reconcile, also when there was nothing to train or some machine was refused."""
        job = self._task.job
        if job.reconcile:
            machines = []
        elif job.missing:
            registry, _ = await load_registry(self._events)
            machines = [machine for machine in machines if registry.champion(machine.id) is None]
        elif job.due:
            registry, _ = await load_registry(self._events)
            machines = [machine for machine in machines if registry.champion(machine.id) is not None]
        await deliver(self._events, self._control)  # what a killed trainer decided and did not tell the edges
        self._tell({"event": "started", "machines": [machine.id for machine in machines]})
        refused = []
        for machine in machines:
            try:
                await self._train(machine)
            except Rejected as error:  # the others' models do not wait for this machine's readings
                refused.append(f"{machine.id}: {error.reason}")
                self._tell({"event": "refused", "machine": machine.id, "reason": error.reason})
        await self._followers.reconcile()
        if refused:
            raise Rejected("no model: " + "; ".join(refused))

    async def _train(self, machine: Trainee) -> None:
        """A first model is delivered, and one that a person wants so; else it is held against the champion."""
        job = self._task.job
        registry, _ = await load_registry(self._events)
        champion = registry.champion(machine.id)
        if champion is not None and not (job.deliver or job.rebaseline):
            await self._challenge(machine, registry, champion, asked=not job.due)
            return
        why = "baseline" if job.rebaseline else "first" if champion is None else "deliver"
        async with self._begun(machine, champion, why) as (run, heard):
            with self._watched(machine) as watch:
                trained = await self._fit(machine, champion, run, heard, watch)
            await self._register(machine, trained)
            await self._deliver(machine, trained.chosen)

    async def _fit(
        self, machine: Trainee, champion: Model | None, run: Begun, heard: Heard, watch: Watch
    ) -> Trained:
        """Fit candidates on all that may be learnt, or what came since the last maintenance. Raises Rejected."""
        self._step(machine.id, "fit")
        began = self._clock.monotonic()
        rebaseline, past, words = self._task.job.rebaseline, heard.past, heard.words
        trained = await train_machine_models(
            self._store,
            machine.id,
            machine.type,
            self._clock,
            operating_sensor=machine.operating_sensor or None,
            clusters=self._task.clusters,
            choice=self._task.choice,
            from_us=since_maintenance(past) if rebaseline else BEGIN_US,
            to_us=run.now_us - SETTLED_US,
            # A new baseline has no parent: what came before it is no measure any more.
            parent=None if champion is None or rebaseline else champion.version_hash,
            left_out=(*past.spans, *judged_out(words.judged, self._task.policy.before_failure_us)),
            thinned=past.thinned,
            labels_as_of_us=run.now_us,
            judged=words.judged,
            champion=None if champion is None else await self._control.get_model(champion.version_hash),
            watch=watch,
            keep=run.keep,
            study=run.study,
        )
        self._tell(fitted(trained, self._clock.monotonic() - began))
        return trained

    async def _challenge(self, machine: Trainee, registry: Registry, champion: Model, *, asked: bool) -> None:
        """Train against the champion where that is due, and promote what is better with nobody asked. Raises Rejected."""
        retraining = Retraining(self._store, self._events, self._clock, self._tell, self._task.policy)
        async with self._begun(machine, champion, "asked" if asked else "due") as (run, heard):
            looked = await retraining.look(registry, champion, heard, asked=asked)
            if looked.decision.action is not Action.TRAIN:
                return
            self._step(machine.id, "fit")
            began = self._clock.monotonic()
            artifact = await self._control.get_model(champion.version_hash)
            with self._watched(machine) as watch:
                trained, prepared = await retraining.fit(
                    looked,
                    artifact,
                    machine.type,
                    machine.operating_sensor or None,
                    clusters=self._task.clusters,
                    choice=self._task.choice,
                    watch=watch,
                    keep=run.keep,
                    study=run.study,
                )
            self._tell(fitted(trained, self._clock.monotonic() - began))
            model = await self._register(machine, trained)
            self._step(machine.id, "contest", trained.chosen.method)
            contest = await retraining.judge(
                looked, prepared, artifact, trained.chosen.artifact, model.version_hash
            )
            if contest.outcome is Outcome.PROMOTE:
                await self._deliver(machine, trained.chosen)
            else:
                await self._followers.reconcile()

    @contextmanager
    def _watched(self, machine: Trainee) -> Iterator[Watch]:
        """Those who look on while a machine's models are fitted. Raises Misconfigured."""
        watches: list[Watch] = [TellingWatch(machine.id, self._tell, self._clock)]
        with ExitStack() as stack:
            if self._task.job.tensorboard is not None:
                board = tensorboard_watch(self._task.job.tensorboard, machine.id, self._clock)
                watches.append(stack.enter_context(board))
            if self._task.job.wandb is not None:
                watches.append(stack.enter_context(wandb_watch(self._task.job.wandb, machine.id)))
            yield Together(watches)

    @asynccontextmanager
    async def _begun(
        self, machine: Trainee, champion: Model | None, why: str
    ) -> AsyncIterator[tuple[Begun, Heard]]:
        """Begin a run on a machine's models, or take up the one that was killed, with what was known at its now. Raises Unavailable."""
        heard = await hear(self._store, self._events, machine.id, self._clock.now_us())
        ended = [one for one in heard.past.maintenance if one.to_us < heard.now_us]
        said = sha256(repr((ended, heard.words.judged)).encode())
        held = None if champion is None else champion.version_hash
        order = Order(machine.id, self._task.choice, why, held, self._task.clusters, said)
        with begun(self._data.training, order, heard.now_us, self._tell) as run:
            if run.now_us != heard.now_us:
                heard = await hear(self._store, self._events, machine.id, run.now_us)
            yield run, heard

    async def _register(self, machine: Trainee, trained: Trained) -> Model:
        """Log and register all candidates, the chosen one last."""
        await self._followers.begin()
        for candidate in [c for c in trained.candidates if c is not trained.chosen] + [trained.chosen]:
            await self._followers.log_run(anomaly_run(candidate))
            self._step(machine.id, "register", candidate.method)
            model = await register(self._events, self._control, candidate.artifact, self._clock)
        return model

    async def _deliver(self, machine: Trainee, chosen: Candidate) -> None:
        """Let the machine's edge run a registered candidate. Raises NotFound, Unavailable, Conflict."""
        self._step(machine.id, "promote")
        version_hash = sha256(chosen.artifact)
        model = await decide_for(self._events, version_hash, machine.edge, self._clock)
        self._step(machine.id, "deliver")
        await deliver(self._events, self._control, machine.id)
        await self._followers.reconcile()
        self._tell(
            {
                "event": "delivered",
                "machine": machine.id,
                "edge": machine.edge,
                "model": model.name,
                "version": model.version,
                "sha256": model.version_hash,
                "provisional": model.provisional,
            }
        )

    def _step(self, machine: str, step: str, method: str = "") -> None:
        self._tell({"event": "step", "machine": machine, "step": step, "method": method})


def since_maintenance(past: Past) -> int:
    """When the last maintenance ended. Raises Rejected (there was none)."""
    if not past.maintenance:
        raise Rejected("a new baseline begins with the end of maintenance, and there was none")
    return max(one.to_us for one in past.maintenance)


def fitted(trained: Trained, seconds: float) -> dict[str, Any]:
    """What a fit came to: both candidates' figures and the choice."""
    return {
        "event": "fitted",
        "machine": trained.machine,
        "seconds": round(seconds, 1),
        "rows": trained.data.rows,
        "rows_sha256": trained.data.sha256,
        "chosen": trained.chosen.method,
        "candidates": [
            {
                "method": candidate.method,
                "metrics": dict(candidate.metrics),
                "epochs": max((len(curve) for curve in candidate.curves.values()), default=0),
            }
            for candidate in trained.candidates
        ],
    }
