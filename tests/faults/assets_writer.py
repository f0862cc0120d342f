"""A child for the kill test: owns the assets, changes one over and over, and says what was confirmed."""

import asyncio
import sys
from pathlib import Path

from cloud.assets.sql import open_assets
from shared.jetstream import open_jetstream
from shared.sqlalchemy import open_database
from tests.unit.assets_plant import FLOW, SEEN, ada, owning


async def main(url: str, credentials: str, path: Path, first: int) -> None:
    async with (
        open_jetstream(url, credentials=credentials) as log,
        open_database(f"sqlite:///{path}", setting="api.app_url") as database,
    ):
        assets = owning(log, await open_assets(database))
        await assets.owner.see(SEEN)
        number = first
        while True:
            await assets.commands.change(*FLOW, {"name": f"n{number}"}, ada(request=f"k{number}"))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            number += 1


asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
