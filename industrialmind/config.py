"""`industrialmind config show|validate`: every section's settings, their values and their origins."""

import sys
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from industrialmind.sections import SECTIONS, given_sections, settings_class
from shared.errors import Misconfigured
from shared.settings import Loaded, ServiceSettings, load, named_file, no_color


def show_config(section: str | None, config: Path | None, *, with_origin: bool, as_json: bool) -> None:
    """Print one section or all that can be loaded; a section with a required setting missing says which."""
    given_sections(config)
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
        Console(no_color=no_color(), markup=False).print(table)
    for problem in problems:
        sys.stderr.write(f"{problem}\n")


def validate_config(config: Path | None) -> None:
    """Check the file (else that of IM_CONFIG) with the environment on top, or the environment alone.

    Raises Misconfigured at the first thing wrong. Sections that the file does not have are not judged.
    """
    given = given_sections(config)
    if config is None and not given:
        raise Misconfigured(
            "nothing to validate", hint="give --config FILE, or set IM_CONFIG or IM_SECTION__KEY"
        )
    for name in given:
        load(settings_class(name), toml=config)
    where = config or named_file() or "environment"
    sys.stdout.write(f"{where}: {', '.join(given) or 'empty'}: valid\n")
