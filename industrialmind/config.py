"""`industrialmind config show|validate`: every section's settings, their values and their origins."""

import sys
import tomllib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table

from shared.errors import Misconfigured
from shared.settings import Loaded, ServiceSettings, load

SECTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "edge": ("edge.settings", "EdgeSettings"),
    "gateway": ("gateway.settings", "GatewaySettings"),
    "ingest": ("cloud.ingest.settings", "IngestSettings"),
    "api": ("cloud.api.settings", "ApiSettings"),
    "replay": ("firmware_sim.settings", "ReplaySettings"),
    "ledger": ("cloud.ledger.settings", "LedgerSettings"),
    "sim": ("firmware_sim.settings", "SimSettings"),
}


def settings_class(section: str) -> type[ServiceSettings]:
    """The settings class of a section. Raises Misconfigured."""
    if section not in SECTIONS:
        raise Misconfigured(f"no section {section!r}", hint=f"sections are {', '.join(SECTIONS)}")
    module, name = SECTIONS[section]
    found: type[ServiceSettings] = getattr(import_module(module), name)
    return found


def show_config(section: str | None, config: Path | None, *, with_origin: bool, as_json: bool) -> None:
    """Print one section or all that can be loaded; a section with a required setting missing says which."""
    rows: list[dict[str, str]] = []
    problems: list[str] = []
    for name in [section] if section else SECTIONS:
        try:
            loaded: Loaded[ServiceSettings] = load(settings_class(name), toml=config)
        except Misconfigured as error:
            if section:
                raise
            problems.append(str(error))
            continue
        rows += [
            {"setting": f"{name}.{key}", "value": value, "origin": origin}
            for key, value, origin in loaded.rows()
        ]
    if as_json:
        sys.stdout.write(orjson.dumps(rows).decode() + "\n")
    else:
        table = Table(*(["setting", "value", "origin"] if with_origin else ["setting", "value"]))
        for row in rows:
            table.add_row(
                *(row[column] for column in ("setting", "value", "origin")[: 3 if with_origin else 2])
            )
        Console().print(table)
    for problem in problems:
        sys.stderr.write(f"{problem}\n")


def validate_config(config: Path | None) -> None:
    """Raises Misconfigured at the first thing wrong; sections that the file does not have are not judged."""
    if config is None:
        raise Misconfigured("nothing to validate", hint="give --config FILE")
    document = tomllib.loads(config.read_text(encoding="utf-8"))
    for name in document:
        load(settings_class(name), toml=config)
    sys.stdout.write(f"{config}: {', '.join(document) or 'empty'}: valid\n")
