"""What the tools that draw a fit's curves have in common: a package of an extra by its name, and a folder."""

import importlib
from pathlib import Path

from shared.errors import Misconfigured, lacking


def ready(package: str, folder: Path) -> None:
    """Make the folder, before the fit and not after its first epoch.

    Raises:
        Misconfigured: The package, and with it the extra of its name, is not installed, or the folder can't be written.
    """
    try:
        importlib.import_module(package)
        folder.mkdir(parents=True, exist_ok=True)
    except ModuleNotFoundError as error:
        raise lacking(error, package) from error
    except OSError as error:
        raise Misconfigured(f"{folder} can't be written: {error}", hint="choose another folder") from error
