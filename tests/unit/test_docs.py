"""The documentation is complete and true: what the code defines is documented, what is documented exists."""

import ast
import functools
import gc
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from shared import names
from shared.events import EVENTS, Event
from shared.names import DeviceTopic, LocalTopic, UplinkTopic
from shared.settings import GLOBAL_VARIABLES, PREFIX, ServiceSettings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGES = ("industrialmind", "shared", "edge", "gateway", "cloud", "firmware_sim")
HOUSE_TEXTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*HOUSE_TEXTS, *sorted(DOCS.rglob("*.md"))]
METHODS = {"get", "post", "put", "patch", "delete"}
METRIC_TYPES = {"Counter", "Gauge", "Histogram", "Summary"}


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@functools.cache
def sources() -> list[tuple[str, ast.Module]]:
    """(module name, syntax tree) of every source file of the product."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in paths]
    gc.disable()  # what is collected amid a parse may parse too, for its traceback, and breaks it (CPython issue 106905)
    try:
        trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    finally:
        gc.enable()
    return list(zip(names, trees, strict=True))


def last_name(node: ast.expr) -> str:
    """`b` of `a.b` and of `b`, else nothing."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def first_text(call: ast.Call) -> str:
    """A call's first argument if it is a literal text."""
    found = call.args[0] if call.args else None
    return found.value if isinstance(found, ast.Constant) and isinstance(found.value, str) else ""


def ticked(text: str, pattern: str) -> set[str]:
    """What stands in backticks and matches `pattern` whole."""
    return {found for found in re.findall(r"`([^`\n]+)`", text) if re.fullmatch(pattern, found)}


def first_cells(text: str, pattern: str) -> dict[str, list[str]]:
    """Table rows whose first cell is one backticked text that matches: that text to the other cells."""
    rows = re.findall(r"^\| `([^`]+)` \|(.*)\|$", text, re.MULTILINE)
    return {
        key: [cell.strip() for cell in re.split(r"(?<!\\)\|", rest)]
        for key, rest in rows
        if re.fullmatch(pattern, key)
    }


# Contracts


def test_every_log_topic_has_its_contract() -> None:
    assert set(names.LOG_TOPICS) <= set(first_cells(page("contracts.md"), r"[a-z-]+"))


def test_every_mqtt_topic_has_its_contract() -> None:
    shapes = {str(DeviceTopic("{site}", "{machine}", "{sensor}"))}
    shapes |= {str(UplinkTopic("{site}", "{edge}", channel)) for channel in ("frames", "urgent", "acks")}
    local = ("agent", "{machine}/state", "{machine}/alarms")
    shapes |= {str(LocalTopic("{site}", "{edge}", what)) for what in local}
    assert shapes <= set(first_cells(page("contracts.md"), r"\S+/\S+"))


def bucket_constants() -> set[str]:
    """Constants `…_BUCKET` and `…_OBJECTS` wherever they are."""
    return {
        node.value.value
        for _, tree in sources()
        for node in tree.body
        if isinstance(node, ast.AnnAssign | ast.Assign) and isinstance(node.value, ast.Constant)
        for target in ([node.target] if isinstance(node, ast.AnnAssign) else node.targets)
        if last_name(target).endswith(("_BUCKET", "_OBJECTS")) and isinstance(node.value.value, str)
    }


def test_every_bucket_has_its_contract() -> None:
    buckets = {names.ASSIGNMENTS_BUCKET, names.MODEL_OBJECTS} | bucket_constants()
    buckets |= {names.desired_bucket("{edge}"), names.reported_bucket("{edge}")}
    assert buckets <= set(first_cells(page("contracts.md"), r"\S+"))


def sqlite_tables() -> set[str]:
    found: set[str] = set()
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"CREATE (?:VIRTUAL )?TABLE (?:IF NOT EXISTS )?(\w+)", node.value))
    return found


def test_every_sqlite_table_has_its_contract_and_no_other_is_named() -> None:
    section = page("contracts.md").split("## SQLite tables", 1)[1].split("\n## ", 1)[0]
    assert set(first_cells(section, r"\w+")) == sqlite_tables()


# Settings


def settings_classes() -> list[type[ServiceSettings]]:
    """Every class with a section, derived from ServiceSettings directly or through another class."""
    modules = {
        module
        for module, tree in sources()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and any(last_name(b).endswith("Settings") for b in node.bases)
    }
    for module in sorted(modules):
        importlib.import_module(module)

    def below(cls: type[ServiceSettings]) -> Iterator[type[ServiceSettings]]:
        for child in cls.__subclasses__():
            yield child
            yield from below(child)

    found = {cls for cls in below(ServiceSettings) if cls.__module__.split(".")[0] in PACKAGES}
    return sorted((cls for cls in found if hasattr(cls, "section")), key=lambda cls: cls.section)


def settings_of(model: type[BaseModel], above: str) -> Iterator[tuple[str, Any, str]]:
    """(dotted key, default, description) of each setting."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from settings_of(kind, f"{above}.{name}")
        else:
            yield f"{above}.{name}", field.get_default(call_default_factory=True), field.description or ""


def shown_default(value: Any) -> str:  # noqa: ANN401 - any setting
    """A default as the table writes it."""
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr):
        return "" if not value.get_secret_value() else "secret"
    if value in (None, "", (), {}):
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(f"`{item}`" for item in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"`{value}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_the_settings_reference_is_what_the_classes_say() -> None:
    wanted = {
        key: [shown_default(default), description.replace("|", r"\|")]
        for cls in settings_classes()
        for key, default, description in settings_of(cls, cls.section)
    }
    documented = first_cells(page("reference/settings.md"), r"[a-z_]+(\.[a-z_0-9]+)+")
    missing = "\n".join(
        f"| `{k}` | {d} | {t} |" for k, (d, t) in wanted.items() if documented.get(k) != [d, t]
    )
    assert not missing, f"write these rows into docs/reference/settings.md:\n{missing}"
    assert set(documented) == set(wanted), "these are no settings"


def test_every_setting_says_what_it_is_for() -> None:
    bare = [k for cls in settings_classes() for k, _, text in settings_of(cls, cls.section) if not text]
    assert not bare, "give these fields a description"


def test_every_other_variable_is_documented() -> None:
    assert ticked(page("reference/settings.md"), rf"{PREFIX}[A-Z_]+") >= set(GLOBAL_VARIABLES)


# Events


@pytest.mark.parametrize("kind", EVENTS)
def test_every_event_is_documented_with_its_fields(kind: str) -> None:
    sections = re.split(r"^## ", page("reference/events.md"), flags=re.MULTILINE)[1:]
    section = next((text for text in sections if text.startswith(f"`{kind}`")), "")
    assert section, f"docs/reference/events.md has no section for {kind}"
    cls = EVENTS[kind]
    fields = set(cls.model_fields) - set(Event.model_fields)
    assert set(first_cells(section, r"\w+")) == fields
    identity = ", ".join(f"`{name}`" for name in ("subject", *cls.identity))
    assert f"version {cls.version}" in section
    assert f"Identity: {identity}." in section


def test_no_event_is_documented_that_does_not_exist() -> None:
    titles = re.findall(r"^## `([^`]+)`", page("reference/events.md"), re.MULTILINE)
    assert sorted(titles) == sorted(EVENTS)


# Metrics


def metrics() -> set[str]:
    """Names as they are exposed: those written out at a metric's making, and those that a `Metrics` class makes."""
    found = set()
    registry = CollectorRegistry()
    for module, tree in sources():
        for node in ast.walk(tree):
            match node:  # a metric's type goes by its bare name: html.Summary is none
                case ast.Call(func=ast.Name(id=kind)) if kind in METRIC_TYPES and first_text(node):
                    found.add(exposed(first_text(node), kind.lower()))
            if isinstance(node, ast.ClassDef) and node.name.endswith("Metrics"):
                getattr(importlib.import_module(module), node.name)(registry)
    return found | {exposed(family.name, family.type) for family in registry.collect()}


def exposed(name: str, kind: str) -> str:
    """A counter's name ends in `_total`."""
    return name.removesuffix("_total") + ("_total" if kind == "counter" else "")


def test_every_metric_is_documented_and_no_other() -> None:
    assert set(first_cells(page("reference/metrics.md"), r"[a-z0-9_]+")) == metrics()


# HTTP


def endpoints() -> set[str]:
    found: set[str] = set()
    for module, tree in sources():
        if not module.startswith(("cloud.", "shared.")):
            continue
        for node in ast.walk(tree):
            for call in getattr(node, "decorator_list", ()):
                if (
                    isinstance(call, ast.Call)
                    and last_name(call.func) in METHODS
                    and first_text(call)[:1] == "/"
                ):
                    found.add(f"{last_name(call.func).upper()} {first_text(call)}")
    return found


def test_every_endpoint_is_documented_and_no_other() -> None:
    documented = first_cells(page("reference/http.md"), r"(GET|POST|PUT|PATCH|DELETE) /\S*")
    assert set(documented) == endpoints()


# Command line


@functools.cache
def commands() -> dict[str, Any]:
    """Command path to command, groups left out."""
    app: typer.Typer = importlib.import_module("industrialmind.cli").app
    root = typer.main.get_command(app)

    def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - typer brings its own click
        children = getattr(command, "commands", None)
        if children is None:
            yield path, command
            return
        for name, child in children.items():
            yield from walk(child, f"{path} {name}")

    return dict(walk(root, "industrialmind"))


def options(command: Any) -> set[str]:  # noqa: ANN401 - typer brings its own click
    return {opt for param in command.params for opt in param.opts if opt.startswith("--")} - {"--help"}


def test_every_command_is_documented_with_its_options_and_no_other() -> None:
    sections = re.split(r"^## ", page("reference/cli.md"), flags=re.MULTILINE)[1:]
    documented = {}
    for section in sections:
        if title := re.match(r"`(industrialmind[^`]*)`", section):
            flags = ticked(section.split("\n", 1)[1], r"(-\w, )?--[a-z-]+( .*)?")
            documented[title[1]] = {re.findall(r"--[a-z-]+", flag)[0] for flag in flags}
    assert documented == {path: options(command) for path, command in commands().items()}


CALL = re.compile(r"^(?:\$ )?(industrialmind [^#\n]*)", re.MULTILINE)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_example_calls_use_commands_and_options_that_exist(path: Path) -> None:
    known = commands()
    blocks = re.findall(
        r"^```(?:sh|bash|console)\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    for call in CALL.findall("\n".join(blocks).replace("\\\n", " ")):
        words = call.split()
        match = [name for name in known if words[: len(name.split())] == name.split()]
        assert match, f"{call!r} is no command"
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= options(known[match[-1]]) | {"--help"}, call


# The pages themselves


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_page_is_reached_from_the_index() -> None:
    index = page("README.md")
    lost = [p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md") if p != DOCS / "README.md"]
    assert [name for name in sorted(lost) if f"({name})" not in index] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_that_pages_name_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    used = set(re.findall(r"`make ([a-z-]+)[^`]*`", path.read_text(encoding="utf-8")))
    assert used <= targets
