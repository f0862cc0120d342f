"""Telegraf, built from its Go module with no more than what carries MQTT to Kafka to InfluxDB: a peer to measure against.

Other than the servers it is not in a context: its user writes its configuration and runs `binary() --config FILE`.
"""

import zlib
from pathlib import Path
from typing import Final

from deploy.servers.cache import cached
from deploy.servers.install import needed, run

VERSION: Final = "1.37.2"
_MODULE: Final = "github.com/influxdata/telegraf"
_PLUGINS: Final = (
    "inputs.kafka_consumer",
    "inputs.mqtt_consumer",
    "outputs.influxdb_v2",
    "outputs.kafka",
    "parsers.influx",
    "parsers.json",
    "serializers.json",
)
_TAGS: Final = ",".join(("custom", *_PLUGINS))
# Another set of plugins is another program in the cache.
_PLUGINS_KEY: Final = f"{zlib.crc32(_TAGS.encode()):08x}"
_LDFLAGS: Final = f"-s -w -X {_MODULE}/internal.Version={VERSION}"
# From this version of the language on, Go reads only those of the 500 modules behind it that the build needs.
_PRUNED: Final = "go 1.24"


def binary() -> Path:
    """The program, built the first time: two minutes. Raises Misconfigured (no Go), Unavailable."""
    return cached(f"telegraf-{VERSION}-{_PLUGINS_KEY}", _build) / "telegraf"


def _build(folder: Path) -> None:
    go = needed("go", server="Telegraf", hint="install Go 1.24 or later")
    source = folder / "build"
    source.mkdir()
    (source / "go.mod").write_text(
        f"module industrialmind/servers\n\n{_PRUNED}\n\nrequire {_MODULE} v{VERSION}\n"
    )
    build = ["-mod=mod", "-trimpath", "-tags", _TAGS, "-ldflags", _LDFLAGS, "-o", str(folder)]
    run([go, "build", *build, f"{_MODULE}/cmd/telegraf"], cwd=source)
