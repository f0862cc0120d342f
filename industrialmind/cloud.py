"""The cloud process: data API and loss ledger together, as `cloud run api` starts them."""

import asyncio
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Final, Self

from prometheus_client import CollectorRegistry

from cloud.api.app import build_app
from cloud.api.cached import Answers
from cloud.api.fleet import Reported
from cloud.api.live import Broadcaster
from cloud.api.looking import Looking
from cloud.api.settings import ApiSettings
from cloud.assets.settings import AssetsSettings
from cloud.cache.port import Cache, CacheMetrics, open_cache
from cloud.commands.app import Dispatcher
from cloud.commands.app import Metrics as CommandMetrics
from cloud.deadletters.app import DeadLetters, Publish, publisher
from cloud.deadletters.app import Metrics as LetterMetrics
from cloud.labels.app import Metrics as VerdictMetrics
from cloud.labels.app import VerdictDesk
from cloud.ledger.app import Ledger, Metrics, edge_reports
from cloud.ledger.settings import LedgerSettings
from cloud.people.audit import AuditTopic
from cloud.similar.app import SimilarAnomalies
from cloud.similar.port import open_vectors
from cloud.telemetry.port import open_store
from industrialmind.asset_part import Eyes, follow_assets, open_assets_part
from industrialmind.letter_answers import LetterAnswers
from industrialmind.model_answers import ModelAnswers
from industrialmind.people import wire_people
from industrialmind.rebuild_jobs import RebuildJobs
from shared.clock import Clock, SystemClock
from shared.eventlog import open_event_log
from shared.health import Health
from shared.nats import open_control
from shared.service import run_loops, until_stop
from shared.uvicorn import serve
from shared.watch import Probe, Watch

SWITCH_SECONDS: Final = 0.0001


@dataclass(frozen=True)
class CloudSettings:
    """The sections of the services in this process."""

    api: ApiSettings
    ledger: LedgerSettings
    assets: AssetsSettings

    @classmethod
    def load_all(cls, toml: Path | None) -> Self:
        """Read every section. Raises Misconfigured."""
        return cls(
            ApiSettings.load(toml=toml), LedgerSettings.load(toml=toml), AssetsSettings.load(toml=toml)
        )


async def run_cloud(settings: CloudSettings, stop: asyncio.Event) -> None:
    """Serve until `stop`. Raises Unavailable (store or server away at the start), Misconfigured."""
    # SQLite gives the interpreter up for each row; with the usual 5 ms a busy event loop would hold up every query.
    sys.setswitchinterval(SWITCH_SECONDS)
    clock, registry, health = SystemClock(), CollectorRegistry(), Health()
    credentials = settings.api.credentials.get_secret_value()
    log_url, log_credentials = settings.api.log
    tls = settings.api.tls.open()
    async with AsyncExitStack() as stack:
        control = await stack.enter_async_context(
            open_control(settings.api.nats_url, credentials=credentials, tls=tls)
        )
        events = await stack.enter_async_context(
            open_event_log(log_url, credentials=log_credentials, tls=tls)
        )
        store = await stack.enter_async_context(
            open_store(
                settings.api.telemetry_url,
                read_only=True,
                access=settings.api.telemetry_access,
                processes=settings.api.reader_processes,
            )
        )
        ledger = Ledger(
            events,
            store,
            lambda: edge_reports(control),
            settings.ledger.path,
            Metrics(registry),
            clock,
            save_seconds=settings.ledger.save_seconds,
            catch_up_seconds=settings.ledger.catch_up_seconds,
        )
        reported = Reported(control)
        live = Broadcaster(reported, clock, stale_after=settings.api.stale_after_seconds)
        cache_metrics = CacheMetrics(registry)
        cache = await stack.enter_async_context(open_answer_cache(settings.api, cache_metrics, clock))
        answers = Answers(
            cache, live.touched, store.positions, cache_metrics, seconds=settings.api.cache_seconds
        )

        async def ledger_json() -> bytes:
            return (await ledger.report()).model_dump_json().encode()

        audit = AuditTopic(events)
        people = None
        if settings.api.app_url:
            people = await stack.enter_async_context(wire_people(settings.api, audit, clock, registry))
        models = ModelAnswers(events, control, clock)
        assets = await open_assets_part(stack, settings.api.app_url, events, clock, registry)
        looking = Looking(live.fleet, store, models.models, None if assets is None else assets.reader, clock)
        letters = DeadLetters(
            events,
            control.assignments,
            clock,
            publish=letter_publisher(settings.api),
            metrics=LetterMetrics(registry),
            turn=audit.turn,
        )
        similar = None
        if settings.api.similar_url:
            vectors = await stack.enter_async_context(open_vectors(settings.api.similar_url))
            similar = SimilarAnomalies(vectors, store)
        dispatcher = Dispatcher(events, control, clock, CommandMetrics(registry))
        app = build_app(
            settings.api,
            store=store,
            reported=reported,
            live=live,
            health=health,
            registry=registry,
            clock=clock,
            ledger=ledger_json,
            models=models.models,
            promote=models.promote,
            letters=LetterAnswers(letters),
            people=None if people is None else people.parts,
            verify=None if people is None else people.gate.verify,
            kept=answers,
            rebuilds=RebuildJobs(
                {"ledger": ledger.rebuild, **({} if assets is None else {"assets": assets.owner.rebuild})}
            ),
            assets=None if assets is None else (assets.reader, assets.commands),
            commands=dispatcher,
            verdicts=VerdictDesk(events, store, clock, VerdictMetrics(registry)),
            similar=similar,
        )
        health.add_check("assignments", lambda: "" if reported.loaded else "not read yet")
        probes: dict[str, Probe] = {"store": store.positions}
        if assets is not None:
            probes["database"] = assets.reader.positions
        if people is not None:
            probes["people"] = people.store.ping
        watch = Watch(health, probes)
        health.started = True
        await run_loops(
            stop,
            http=lambda: serve(
                app, settings.api.host, settings.api.port, stop, section="api", what="the data API"
            ),
            reports=until_stop(stop, reported.follow),
            live=until_stop(stop, lambda: live.run(events)),
            others=until_stop(stop, looking.run),
            ledger=lambda: ledger.run(stop),
            audit=until_stop(stop, people.sender.run if people is not None else for_ever),
            watch=until_stop(stop, watch.run),
            commands=until_stop(stop, dispatcher.run),
            assets=until_stop(
                stop,
                partial(follow_assets, assets, Eyes(control, store, live, models), settings.assets, clock),
            ),
        )


def open_answer_cache(
    settings: ApiSettings, metrics: CacheMetrics, clock: Clock
) -> AbstractAsyncContextManager[Cache]:
    """The cache of the settings; what several plants keep in one server is told apart by their log and store."""
    log_url, _ = settings.log
    plant = blake2b(f"{log_url}\n{settings.telemetry_url}".encode(), digest_size=8).hexdigest()
    url = settings.cache_url.get_secret_value()
    return open_cache(url, metrics=metrics, clock=clock, space=plant, most_bytes=settings.cache_bytes)


async def for_ever() -> None:
    """A loop with nothing to do."""
    await asyncio.Event().wait()


def letter_publisher(settings: ApiSettings) -> Publish | None:
    """Sends dead letters again on the broker of the settings; None where they name none."""
    if not settings.mqtt_url:
        return None
    tls = None if settings.mqtt_tls is None else settings.mqtt_tls.open()
    return publisher(
        settings.mqtt_url, settings.mqtt_username, settings.mqtt_password.get_secret_value(), tls
    )
