"""The inference process: scores over HTTP, and of machines with no edge from the log, as `cloud run inference` starts it."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from cloud.inference.app import build_app
from cloud.inference.batching import Batcher, Queue
from cloud.inference.following import Following
from cloud.inference.metrics import Metrics
from cloud.inference.models import Catalog, Look, Models
from cloud.inference.settings import InferenceSettings
from cloud.life.app import LifeModels, life_router, no_life_model
from cloud.registry.app import RegistryView
from cloud.registry.logic import Model
from cloud.telemetry.port import TelemetryReader, open_store
from industrialmind.repairs import Repairs
from shared.access import Principal, Role, Via
from shared.asgi_access import Verify
from shared.clock import SystemClock
from shared.errors import NotFound
from shared.eventlog import EventLog, LogWaits, open_event_log
from shared.health import Health
from shared.joserfc import open_verifier
from shared.loaded import Desired, LoadedModel, load_tried
from shared.names import INFERENCE_API
from shared.nats import ControlPlane, Timeouts, open_control
from shared.service import Loop, run_loops, until_stop
from shared.uvicorn import serve


async def run_inference(settings: InferenceSettings, stop: asyncio.Event) -> None:
    """Serve until `stop`. Raises Unavailable (store or server away at the start), Misconfigured."""
    clock, registry, health = SystemClock(), CollectorRegistry(), Health()
    metrics = Metrics(registry)
    log_url, log_credentials = settings.log
    tls = settings.tls.open()
    waits = LogWaits(settings.connect_seconds, settings.produce_seconds)
    async with AsyncExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(settings.threads, thread_name_prefix="model"))
        events = await stack.enter_async_context(
            open_event_log(log_url, credentials=log_credentials, waits=waits, tls=tls)
        )
        control = await stack.enter_async_context(
            open_control(
                settings.nats_url,
                credentials=settings.credentials.get_secret_value(),
                timeouts=Timeouts(connect=settings.connect_seconds),
                tls=tls,
            )
        )
        store = await stack.enter_async_context(
            open_store(settings.telemetry_url, read_only=True, access=settings.telemetry_access)
        )
        queue = Queue(settings.queue_windows, metrics)

        def batcher(model: LoadedModel) -> Batcher:
            return Batcher(model.scorer, pool, queue, metrics, most=settings.batch_windows)

        models = Models(
            looker(events), control.get_model, load_tried, batcher, metrics, clock, kept=settings.models_kept
        )
        app = build_app(
            settings,
            models=models,
            store=store,
            verify=await stack.enter_async_context(open_access(settings)),
            health=health,
            registry=registry,
            metrics=metrics,
            life=life_of(settings, events, control, store, metrics),
        )
        health.add_check("registry", models.problem)
        following = Following(
            events,
            control,
            models,
            metrics,
            clock,
            number=settings.number,
            group=settings.group,
            fetch_records=settings.fetch_records,
            machines=settings.machines,
            recent_rows=settings.recent_rows,
            retry_cap_seconds=settings.retry_cap_seconds,
        )
        health.started = True
        loops: dict[str, Loop] = {
            "http": lambda: serve(
                app,
                settings.host,
                settings.port,
                stop,
                section="inference",
                what="the inference API",
                limit_concurrency=settings.connections,
            ),
            "models": until_stop(stop, lambda: models.follow(events)),
        }
        if settings.score_direct:
            health.add_check("scoring from the log", lambda: following.waiting_for)
            loops["assignments"] = until_stop(stop, following.watch_assignments)
            loops["scoring"] = lambda: following.run(stop)
            loops["lag"] = lambda: following.watch_lag(stop)
        await run_loops(stop, grace=settings.grace_seconds, **loops)


def looker(events: EventLog) -> Look:
    """The registry as the log has it, in inference's words."""
    view = RegistryView(events)

    async def look() -> Catalog:
        registry, _ = await view.look()
        machines = {model.machine for model in registry.models}
        champions = {machine: registry.champion(machine) for machine in machines}
        return Catalog(
            {machine: desired(model) for machine, model in champions.items() if model is not None},
            {model.version_hash: (model.machine, desired(model)) for model in registry.models},
        )

    return look


def life_of(
    settings: InferenceSettings,
    events: EventLog,
    control: ControlPlane,
    store: TelemetryReader,
    metrics: Metrics,
) -> APIRouter:
    """Remaining life by what the registry and the closed work orders in the log say."""
    view = RegistryView(events)

    async def find(machine: str, version_hash: str | None) -> Desired:
        registry, _ = await view.look()
        if version_hash is None:
            model, missing = registry.life(machine), no_life_model(machine)
        else:
            model = registry.life_version(machine, version_hash)
            missing = NotFound(f"{machine!r} has no life model {version_hash[:12]}…")
        if model is None:
            raise missing
        return desired(model)

    async def tellers() -> dict[str, Desired]:
        registry, _ = await view.look()
        found = ((machine, registry.life(machine)) for machine in {each.machine for each in registry.lives})
        return {machine: desired(model) for machine, model in found if model is not None}

    models = LifeModels(find, control.get_model, kept=settings.models_kept)
    repairs = Repairs(events)
    return life_router(
        models, tellers, store, repairs.last_us, lambda outcome: metrics.lives.labels(outcome).inc()
    )


def desired(model: Model) -> Desired:
    """A registered version as what is to run."""
    return Desired(model.name, model.version, model.object_name, model.version_hash)


@asynccontextmanager
async def open_access(settings: InferenceSettings) -> AsyncIterator[Verify]:
    """Knows the plant's own services by the token of the settings, and people by tokens that the data API signed."""
    service, token = (
        Principal.of("service", Role.ADMIN, via=Via.SERVICE),
        settings.token.get_secret_value().encode(),
    )
    async with AsyncExitStack() as stack:
        signed = None
        if settings.keys_url:
            signed = await stack.enter_async_context(open_verifier(settings.keys_url, INFERENCE_API))

        async def verify(given: str) -> Principal | None:
            if token and hmac.compare_digest(given.encode(), token):
                return service
            return None if signed is None else await signed.verify(given)

        yield verify
