"""Settings: flags over environment over TOML over defaults, read once, each value knowing where it came from.

A service declares one frozen subclass of `ServiceSettings` with its `section`. `IM_EDGE__BUFFER__MAX_BYTES=1000`
in the environment, `[edge.buffer] max_bytes = 1000` in TOML and the flag all set the same value. An unknown key
is an error. This is the only module that reads the environment.
"""

import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

import orjson
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.errors import Misconfigured

PREFIX: Final = "IM_"
CONFIG_FILE_VARIABLE: Final = "IM_CONFIG"
DATASETS_VARIABLE: Final = "IM_DATASETS"
SERVERS_CACHE_VARIABLE: Final = "IM_SERVERS_CACHE"
# Variables that belong to no service's section.
GLOBAL_VARIABLES: Final = {
    CONFIG_FILE_VARIABLE: "the TOML file with every section",
    DATASETS_VARIABLE: "the folder with recordings for tests and benches",
    SERVERS_CACHE_VARIABLE: "the folder that keeps installed servers for tests and benches",
}

_URL_PASSWORD: Final = re.compile(r"(://[^:/@\s]*:)[^@\s]+@")


class ServiceSettings(BaseSettings):
    """The base of every service's settings. Subclasses set `section` and typed, described fields."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    section: ClassVar[str]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load` has merged the layers already; nothing else is consulted."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @classmethod
    def load(
        cls,
        *,
        flags: Mapping[str, Any] | None = None,
        toml: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Read all layers. Raises Misconfigured naming the key, its origin and what was expected."""
        return load(cls, flags=flags, toml=toml, environ=environ).settings


S = TypeVar("S", bound=ServiceSettings)


@dataclass(frozen=True)
class Loaded(Generic[S]):
    """Settings and, for each dotted key, where its value came from."""

    settings: S
    origins: Mapping[str, str]

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """(key, value with secrets hidden, origin) for each setting."""
        for key, value in _flatten(self.settings):
            shown = "********" if isinstance(value, SecretStr) and value.get_secret_value() else str(value)
            yield key, _URL_PASSWORD.sub(r"\1********@", shown), _origin(self.origins, key)


def load(
    cls: type[S],
    *,
    flags: Mapping[str, Any] | None = None,
    toml: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded[S]:
    """Merge the layers for one service. Raises Misconfigured."""
    environ = os.environ if environ is None else environ
    path = toml or named_file(environ)
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if path is not None:
        _merge(merged, origins, _toml_section(path, cls.section), f"file {path}")
    _merge(merged, origins, _environment(environ, cls.section), "environment")
    _merge(merged, origins, {k: v for k, v in (flags or {}).items() if v is not None}, "flag")
    try:
        return Loaded(cls(**merged), origins)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(sorted(cls.model_fields))
        raise Misconfigured(
            f"setting {cls.section}.{key} (from {_origin(origins, key)}): {first['msg']}"
            if key
            else f"settings of {cls.section}: {first['msg']}",
            hint=f"section {cls.section!r} has the settings {known}; see docs/reference/settings.md",
        ) from error


def named_file(environ: Mapping[str, str] | None = None) -> Path | None:
    """The TOML file that IM_CONFIG names."""
    named = (os.environ if environ is None else environ).get(CONFIG_FILE_VARIABLE)
    return Path(named) if named else None


def check_sections(
    known: Collection[str], *, toml: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """The sections that the file (else that of IM_CONFIG) or, with no file, the environment has settings of.

    Raises Misconfigured for a part of either that belongs to no section in `known`: else a mistyped name would
    be ignored in silence.
    """
    environ = os.environ if environ is None else environ
    hint = f"sections are {', '.join(known)}; in the environment IM_SECTION__KEY, in a file [section]"
    named: dict[str, None] = {}
    for name in environ:
        if not name.startswith(PREFIX) or name in GLOBAL_VARIABLES:
            continue
        section, _, key = name.removeprefix(PREFIX).partition("__")
        if not key or section.lower() not in known or not section.isupper():
            raise Misconfigured(f"{name} in the environment sets nothing: it names no section", hint=hint)
        named[section.lower()] = None
    path = toml or named_file(environ)
    if path is None:
        return tuple(named)
    document = read_toml(path)
    for section in document:
        if section not in known:
            raise Misconfigured(f"{path} has a section {section!r}, which nothing reads", hint=hint)
    return tuple(document)


def datasets_dir() -> Path:
    """The folder with recordings for tests and benches; it may be absent."""
    return Path(os.environ.get(DATASETS_VARIABLE, "../shared/data"))


def servers_cache_dir() -> Path:
    """The folder that keeps the servers which tests and benches install; it may be absent."""
    named = os.environ.get(SERVERS_CACHE_VARIABLE)
    return Path(named).resolve() if named else Path.home() / ".cache" / "industrialmind" / "servers"


def child_environment(**extra: str) -> dict[str, str]:
    """The environment for a child process: this one's, with `extra` on top."""
    return {**os.environ, **extra}


def set_library_environment(values: Mapping[str, str]) -> None:
    """Settings for a library that takes them from the environment alone; to be given before it is imported."""
    os.environ.update(values)


def notify_socket() -> str:
    """Where systemd wants to be told how this service is; empty where nobody does."""
    return os.environ.get("NOTIFY_SOCKET", "")


def watchdog_seconds() -> float | None:
    """Within what time systemd wants to hear from this process again and again; None: it does not."""
    pid, span = os.environ.get("WATCHDOG_PID", ""), os.environ.get("WATCHDOG_USEC", "")
    if not span.isdigit() or int(span) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(span) / 1e6


def no_color() -> bool:
    """Whether the user asked for plain text (no-color.org)."""
    return bool(os.environ.get("NO_COLOR"))


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file. Raises Misconfigured (no such file, not TOML)."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(
            f"can't read {path}: {error.strerror}", hint="check --config or IM_CONFIG"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} is not TOML: {error}", hint="mend the line it names") from error


def _toml_section(path: Path, section: str) -> dict[str, Any]:
    found = read_toml(path).get(section, {})
    if not isinstance(found, dict):
        raise Misconfigured(
            f"{path}: {section!r} is not a table", hint=f"write [{section}] and keys below it"
        )
    return found


def _environment(environ: Mapping[str, str], section: str) -> dict[str, Any]:
    prefix = f"{PREFIX}{section.upper()}__"
    layer: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith(prefix):
            continue
        *parents, leaf = name.removeprefix(prefix).lower().split("__")
        _put(layer, parents, leaf, _value(text))
    return layer


def _put(into: dict[str, Any], parents: Sequence[str], leaf: str, value: object) -> None:
    """Set a nested value; a plain value that stood where a table must be gives way."""
    target = into
    for parent in parents:
        nested = target.get(parent)
        if not isinstance(nested, dict):
            nested = target[parent] = {}
        target = nested
    target[leaf] = value


def _origin(origins: Mapping[str, str], key: str) -> str:
    """Where the value of `key` came from: its own origin, that of a part of it, or that of what holds it."""
    if key in origins:
        return origins[key]
    parts = [origin for known, origin in origins.items() if known.startswith(f"{key}.")]
    holders = [origin for known, origin in origins.items() if key.startswith(f"{known}.")]
    return next(iter([*reversed(parts), *holders]), "default")


def _value(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Lists and tables are JSON; everything else stays text for pydantic to read."""
    if text[:1] in "[{":
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return text


def _merge(into: dict[str, Any], origins: dict[str, str], layer: Mapping[str, Any], origin: str) -> None:
    for key, value in _items(layer):
        *parents, leaf = key
        _put(into, parents, leaf, value)
        origins[".".join(key)] = origin


def _items(layer: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in layer.items():
        if isinstance(value, Mapping) and value:
            yield from _items(value, (*above, key))
        else:
            yield (*above, key), value


def _flatten(model: BaseModel, above: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _flatten(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
