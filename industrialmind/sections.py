"""The sections of the configuration: whose they are, and the check that none is mistyped."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

from shared.errors import Misconfigured
from shared.settings import ServiceSettings, check_sections

SECTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "edge": ("edge.settings", "EdgeSettings"),
    "gateway": ("gateway.settings", "GatewaySettings"),
    "ingest": ("cloud.ingest.settings", "IngestSettings"),
    "api": ("cloud.api.settings", "ApiSettings"),
    "inference": ("cloud.inference.settings", "InferenceSettings"),
    "ui": ("cloud.ui.settings", "UiSettings"),
    "mlflow": ("cloud.training.mlflow.settings", "MlflowSettings"),
    "replay": ("firmware_sim.settings", "ReplaySettings"),
    "assets": ("cloud.assets.settings", "AssetsSettings"),
    "ledger": ("cloud.ledger.settings", "LedgerSettings"),
    "sim": ("firmware_sim.settings", "SimSettings"),
    "retraining": ("cloud.training.settings", "RetrainingSettings"),
    "train": ("industrialmind.train_settings", "TrainSettings"),
    "discover": ("industrialmind.discover_settings", "DiscoverSettings"),
    "servers": ("industrialmind.servers_settings", "ServersSettings"),
}


def settings_class(section: str) -> type[ServiceSettings]:
    """The settings class of a section; its module loads only now. Raises Misconfigured."""
    if section not in SECTIONS:
        raise Misconfigured(f"no section {section!r}", hint=f"sections are {', '.join(SECTIONS)}")
    module, name = SECTIONS[section]
    found: type[ServiceSettings] = getattr(import_module(module), name)
    return found


def given_sections(config: Path | None) -> tuple[str, ...]:
    """The sections of the file, else those that the environment sets. Raises Misconfigured for a mistyped one."""
    return check_sections(SECTIONS, toml=config)
