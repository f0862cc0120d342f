"""Every endpoint says which right it needs, and no role can do more than its rights: each route, each role."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from fastapi import FastAPI

from cloud.api.people import KEYS_PATH
from cloud.api.rights import WEBSOCKET, Endpoint, endpoints
from shared.access import RIGHTS, Right, Role
from tests.servers import NatsServer
from tests.unit.people_api import CLI, ROOM, Plant, people_plant

OPEN: Final = {("GET", KEYS_PATH)}
ENDLESS: Final = {"/v1/stream"}
ADMINISTER: Final = {
    "GET /v1/users",
    "POST /v1/users",
    "GET /v1/users/{name}",
    "PATCH /v1/users/{name}",
    "PUT /v1/users/{name}/password",
    "POST /v1/keys",
}
SERVICES: Final = {
    "POST /v1/login-links": ("cli",),
    "POST /v1/sessions": ("ui", "cli"),
    "POST /v1/oidc": ("ui", "cli"),
}
ENGINEER: Final = {
    "POST /v1/models/promotions",
    "POST /v1/rebuilds",
    "POST /v1/dead-letters/{letter}/replay",
    "POST /v1/dead-letters/{letter}/drop",
}


@pytest.fixture
async def plant(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Plant]:
    async with people_plant(tmp_path, nats_server) as made:
        yield made


def name(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


def filled(path: str) -> str:
    """A path with something in each of its places."""
    return "/".join("0-1" if part.startswith("{") else part for part in path.split("/"))


def test_every_endpoint_says_what_it_needs(plant: Plant) -> None:
    found = {name(each): each for each in endpoints(plant.api.app)}
    bare = {key for key, each in found.items() if each.right is None and not each.services}
    assert bare == {f"{method} {path}" for method, path in OPEN}
    assert {key: each.services for key, each in found.items() if each.services} == SERVICES
    assert {key for key, each in found.items() if each.right is Right.ADMINISTER} == ADMINISTER
    assert {key for key, each in found.items() if each.right is Right.ENGINEER} == ENGINEER
    changing = {key for key, each in found.items() if each.method not in {"GET", WEBSOCKET}}
    own = {key for key in changing if key.split("/")[2] in {"sessions", "tokens", "me", "access-tokens"}}
    readers = {key for key in changing - own if found[key].right is Right.READ}
    assert readers == set(), "these change something, and need but the right to read"


async def test_no_role_can_do_more_than_its_rights(plant: Plant) -> None:
    for role in Role:
        await plant.add(role.value, role)
    refused: dict[Role, set[str]] = {}
    wanted: dict[Role, set[str]] = {}
    found = [
        each for each in endpoints(plant.api.app) if each.path not in ENDLESS and each.method != WEBSOCKET
    ]
    assert len(found) > 30
    for role in Role:
        headers = {"Authorization": f"Bearer {await plant.session(role.value)}"}
        refused[role], wanted[role] = set(), set()
        for each in sorted(found, key=lambda each: each.path == "/v1/sessions/current"):
            answer = await plant.http.request(each.method, filled(each.path), headers=headers, **_body(each))
            assert answer.status_code not in {401, 500}, (name(each), answer.text)
            if answer.status_code == 403:
                refused[role].add(name(each))
            if each.services or (each.right is not None and each.right not in RIGHTS[role]):
                wanted[role].add(name(each))
    assert refused == wanted


async def test_a_token_of_an_administrator_can_do_no_more_than_its_scopes(plant: Plant) -> None:
    await plant.add("root", Role.ADMIN)
    session = await plant.session("root")
    made = await plant.ask("POST", "/v1/tokens", session, 201, scopes=["read"])
    headers = {"Authorization": f"Bearer {made['token']}"}
    for each in endpoints(plant.api.app):
        if each.right in {None, Right.READ} or each.method == WEBSOCKET:
            continue
        answer = await plant.http.request(each.method, filled(each.path), headers=headers)
        assert answer.status_code == 403, name(each)


async def test_without_a_token_nothing_answers_but_what_is_open(plant: Plant) -> None:
    for each in endpoints(plant.api.app):
        if each.method != WEBSOCKET:
            answer = await plant.http.request(each.method, filled(each.path), headers={"Authorization": ""})
            expected = 200 if (each.method, each.path) in OPEN else 401
            assert answer.status_code == expected, name(each)


async def test_services_may_ask_what_is_theirs(plant: Plant) -> None:
    await plant.ask("POST", "/v1/login-links", ROOM, 403)
    await plant.ask("POST", "/v1/login-links", CLI, 201)
    body = {"name": "nobody", "password": "x"}
    for headers in (ROOM, CLI):
        await plant.ask("POST", "/v1/sessions", headers, 401, **body)


def test_the_openapi_document_says_it_too(plant: Plant) -> None:
    app: FastAPI = plant.api.app
    document = app.openapi()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            is_open = (method.upper(), path) in OPEN
            assert operation["security"] == ([] if is_open else [{"bearer": []}])
            assert is_open or "x-right" in operation or "x-services" in operation
    users = document["paths"]["/v1/users"]["get"]
    assert users["x-right"] == "administer"
    assert "Needs the right to administer." in users["description"]
    assert "For cli of this plant only." in document["paths"]["/v1/login-links"]["post"]["description"]


def _body(endpoint: Endpoint) -> dict[str, Any]:
    """What a valid request of the few has that would refuse for another reason than a right."""
    return {"json": {"label": "x"}} if name(endpoint) == "POST /v1/tokens" else {}
