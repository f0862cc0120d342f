"""Discovery on mosquitto: three foreign styles, three mappings, every reading in the edge's outbox."""

from pathlib import Path

import pytest

from deploy.servers.mosquitto import Mosquitto
from tests.discovery import three_styles

pytestmark = pytest.mark.real


async def test_three_styles_are_discovered_mapped_and_read(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await three_styles(mosquitto.port, mosquitto.username, mosquitto.password, tmp_path)
