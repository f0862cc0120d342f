"""mq-bridge: one route, carried by its Rust core; Python only starts it.

Run: python -m bench.peers.mq_bridge_route CONFIG, a file with a route as JSON.
"""

import logging
import sys
from pathlib import Path

import orjson
from mq_bridge import Route, init_logging


def main() -> None:
    """Run the route until killed."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    init_logging("warn")
    Route.from_config(orjson.loads(Path(sys.argv[1]).read_bytes())).run()


if __name__ == "__main__":
    main()
