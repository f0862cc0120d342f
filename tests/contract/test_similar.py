"""Vectors of anomalies: one suite over Chroma's folder and its server; and what is found by them in a store."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from cloud.similar.app import SimilarAnomalies
from cloud.similar.embedding import DIMENSIONS, embed, likeness
from cloud.similar.port import MAX_PUT, Kept, Vectors, open_vectors
from cloud.telemetry.port import open_store
from deploy.servers.chroma import Chroma
from shared.errors import Misconfigured, NotFound, Unavailable
from shared.events import AnomalyStarted, Sensor
from shared.nats import open_control
from shared.supervise import free_ports
from tests.servers import NatsServer
from tests.unit.api_parts import Api
from tests.unit.front_door import ONSET, anomaly_started, event


@pytest.fixture(scope="session")
def chroma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chroma]:
    with Chroma(tmp_path_factory.mktemp("chroma")) as running:
        yield running


@pytest.fixture(params=["folder", pytest.param("server", marks=pytest.mark.real)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return f"chroma+file://{tmp_path}/similar"
    server: Chroma = request.getfixturevalue("chroma")
    return server.url


@pytest.fixture
async def vectors(url: str) -> AsyncIterator[Vectors]:
    async with open_vectors(url) as opened:
        yield opened


def kept(name: str, *shares: float, up: bool = True) -> Kept:
    return Kept(f"{name}", embed(sensors(*shares, up=up)), {"machine": "pump-1", "onset_us": 7})


def sensors(*shares: float, up: bool = True) -> tuple[Sensor, ...]:
    return tuple(
        Sensor(sensor=f"s{n}", share=share, seen=2.0 if up else 0.0, expected=1.0, unit="bar")
        for n, share in enumerate(shares)
    )


def test_likeness_is_of_shares_and_ways_whatever_the_order_and_the_others() -> None:
    one = embed(sensors(0.7, 0.3))
    assert likeness(one, embed(sensors(0.7, 0.3)[::-1])) == pytest.approx(1, abs=1e-6)
    alike, less = likeness(one, embed(sensors(0.6, 0.4))), likeness(one, embed(sensors(0.1, 0.9)))
    assert 1 > alike > less > 0.5
    assert likeness(one, embed(sensors(0.7, 0.3, up=False))) == pytest.approx(0, abs=1e-6)
    assert likeness(one, embed(sensors(0, 0, 1))) < 0.1
    unknown = Sensor(sensor="s0", share=1, seen=None, expected=1.0, unit="bar")
    assert likeness(embed([unknown]), embed(sensors(1))) == pytest.approx(0.5**0.5, abs=1e-6)
    assert not embed([]).any()


async def test_what_was_put_is_found_by_id_and_by_nearness(vectors: Vectors) -> None:
    rows = [kept("a", 0.7, 0.3), kept("b", 0.6, 0.4), kept("c", 0, 0, 1), kept("d", 0.7, 0.3, up=False)]
    await vectors.put(rows)
    await vectors.put([])
    assert await vectors.missing(["a", "x", "d"]) == {"x"}
    assert await vectors.missing([]) == set()
    found = await vectors.get("a")
    assert found is not None
    assert found.about == {"machine": "pump-1", "onset_us": 7}
    assert np.allclose(found.vector, rows[0].vector)
    assert await vectors.get("x") is None
    near = await vectors.near(rows[0].vector, 3)
    assert [each.id for each in near][:2] == ["a", "b"]
    assert near[0].likeness == pytest.approx(1, abs=1e-5)
    assert near[1].likeness == pytest.approx(likeness(rows[0].vector, rows[1].vector), abs=1e-5)
    assert near[2].likeness < 0.1
    await vectors.put([kept("c", 0.7, 0.3)])
    assert [each.id for each in await vectors.near(rows[0].vector, 2)] == ["a", "c"]
    with pytest.raises(ValueError, match="at most"):
        await vectors.put(rows * MAX_PUT)


async def test_a_folder_keeps_over_restarts_and_belongs_to_one_process(tmp_path: Path) -> None:
    url = f"chroma+file://{tmp_path}/similar"
    async with open_vectors(url) as first:
        await first.put([kept("a", 1)])
        async with open_vectors(url) as second:
            with pytest.raises(Unavailable, match="another process"):
                await second.get("a")
    async with open_vectors(url) as third:
        assert await third.missing(["a"]) == set()


async def test_a_server_that_is_away_is_unavailable_and_a_url_that_is_none_misconfigured() -> None:
    [port] = free_ports(1)
    async with open_vectors(f"http://127.0.0.1:{port}") as away:
        with pytest.raises(Unavailable, match="Chroma does not answer"):
            await away.put([kept("a", 1)])
    for wrong in ("", "chroma+file://host/x", "ftp://x", "sqlite:///x"):
        with pytest.raises(Misconfigured):
            async with open_vectors(wrong):
                pass


def started(machine: str, hours: int, *shares: float, up: bool = True) -> AnomalyStarted:
    begun = anomaly_started(machine, ONSET + timedelta(hours=hours))
    return begun.model_copy(update={"sensors": sensors(*shares, up=up)})


async def test_a_stores_anomalies_are_found_by_likeness_as_they_come(tmp_path: Path) -> None:
    first, second = started("pump-1", 0, 0.8, 0.2), started("fan-1", 1, 0.7, 0.3)
    other, later = started("pump-1", 2, 0, 0, 1), started("pump-1", 3, 0.8, 0.2)
    url = f"sqlite:///{tmp_path}/t.db"
    async with open_store(url) as store, open_vectors(f"chroma+file://{tmp_path}/similar") as vectors:
        similar = SimilarAnomalies(vectors, store)
        with pytest.raises(NotFound):
            await similar.like(first.id, 10)
        await store.write([event(n, each) for n, each in enumerate((second, other, first), 1)])
        found = await similar.like(first.id, 10)
        assert [each.anomaly for each in found] == [second, other]
        assert found[0].likeness > 0.95
        assert found[1].likeness < 0.1
        await store.write([event(4, later)])
        assert [each.anomaly for each in await similar.like(first.id, 2)] == [later, second]
    # A store that was made anew numbers its events anew; what it has is followed from its beginning.
    newer = started("fan-1", 9, 0.8, 0.2)
    async with (
        open_store(f"sqlite:///{tmp_path}/u.db") as anew,
        open_vectors(f"chroma+file://{tmp_path}/similar") as vectors,
    ):
        similar._store, similar._vectors = anew, vectors
        await anew.write([event(1, newer)])
        assert (await similar.like(newer.id, 1))[0].likeness == pytest.approx(1, abs=1e-5)


async def test_the_api_answers_with_them_and_says_what_to_set_where_none_are_kept(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    one, other = started("pump-1", 0, 0.8, 0.2), started("fan-1", 1, 0.7, 0.3)
    async with (
        open_store(f"sqlite:///{tmp_path}/t.db") as store,
        open_control(nats_server.url, credentials=nats_server.credentials) as control,
        open_vectors(f"chroma+file://{tmp_path}/similar") as vectors,
    ):
        await store.write([event(1, one), event(2, other)])
        api = Api(store, control, similar=SimilarAnomalies(vectors, store))
        async with api.http:
            listed = (await api.get("/v1/anomalies"))["anomalies"]
            found = await api.get(f"/v1/anomalies/{listed[1]['id']}/similar", limit=5)
            assert found["anomaly"] == one.id
            assert [(each["id"], each["machine"]) for each in found["similar"]] == [(other.id, "fan-1")]
            assert 0.95 < found["similar"][0]["likeness"] < 1
            assert found["similar"][0]["sensors"][0]["sensor"] == "s0"
            await api.get("/v1/anomalies/none/similar", 404)
            await api.get(f"/v1/anomalies/{one.id}/similar", 422, limit=51)
        without = Api(store, control)
        async with without.http:
            said = await without.get(f"/v1/anomalies/{one.id}/similar", 404)
            assert "api.similar_url" in said["title"]


def test_nothing_is_loaded_before_the_first_question() -> None:
    asks = (
        "import asyncio, sys\nfrom cloud.similar.port import open_vectors\n"
        "async def main():\n"
        "    async with open_vectors('chroma+file:///nowhere'): print('chromadb' in sys.modules)\n"
        "asyncio.run(main())"
    )
    assert subprocess.check_output([sys.executable, "-c", asks], text=True).strip() == "False"


def test_vectors_have_one_length() -> None:
    assert embed(sensors(0.5, 0.5)).shape == (DIMENSIONS,)
