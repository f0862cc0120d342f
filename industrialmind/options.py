"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from industrialmind.plant import DEFAULT_DATA

DataOption = Annotated[Path, typer.Option("--data", help="Folder with the plant's data.", show_default=True)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file with the settings.", exists=True, dir_okay=False)
]
DATA = DEFAULT_DATA
