"""The processes of `industrialmind up`, each with its TOML: who gets which file, URL and credential."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from firmware_sim.machines import machine_type
from firmware_sim.wave_blocks import BEARING, NOMINAL_RPM
from firmware_sim.wave_blocks import SENSOR as WAVE_SENSOR
from industrialmind.embedded import EmbeddedNats
from industrialmind.plant import DataDir, Machine, Plant, write_private
from industrialmind.trainer_job import Job
from shared.supervise import Child

PYTHON = sys.executable
SPARKPLUG_HOST = "industrialmind"


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports of a plant on one machine."""

    nats: int
    mqtt: int
    api: int
    ui: int
    inference: int
    mlflow: int | None = None
    """None: MLflow's server does not run."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """A recording to replay, and how."""

    file: Path
    mapping: Path | None = None
    fit_rows: int = 400
    speed: float = 20.0
    interval_s: float | None = None
    keep_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Processes:
    """Builds each child of `up`."""

    data: DataDir
    plant: Plant
    nats: EmbeddedNats
    ports: Ports
    waves_s: float = field(default=0.0, kw_only=True)
    """Seconds between two waveform blocks of a simulated machine, 0 = none."""

    def broker(self) -> Child:
        """nats-server: MQTT, the event log and the control plane."""
        return Child("nats-server", tuple(self.nats.command()), self._log("nats-server"))

    def gateway(self) -> Child:
        """MQTT to the log."""
        account = self.nats.credentials("gateway")
        return self._service(
            "gateway",
            ("gateway", "run"),
            {
                "gateway": {
                    "mqtt_url": self.nats.mqtt_url,
                    "mqtt_username": account.name,
                    "mqtt_password": account.password,
                    "client_id": account.client_id,
                    "sparkplug_host_id": SPARKPLUG_HOST,
                    "nats_url": self.nats.nats_url,
                    "credentials": account.userinfo,
                    "token": self.data.token("metrics"),
                    **self._log_settings(),
                }
            },
        )

    def ingest(self) -> Child:
        """The log to the telemetry store."""
        account = self.nats.credentials("ingest")
        return self._service(
            "ingest",
            ("cloud", "run", "ingest"),
            {
                "ingest": {
                    "nats_url": self.nats.nats_url,
                    "credentials": account.userinfo,
                    "telemetry_url": self.data.telemetry_url,
                    "metrics_token": self.data.token("metrics"),
                    **self._log_settings(),
                }
            },
        )

    def cloud(self) -> Child:
        """The data API and the loss ledger."""
        account, replay = self.nats.credentials("cloud"), self.nats.credentials("replay")
        return self._service(
            "cloud",
            ("cloud", "run", "api"),
            {
                "api": {
                    "port": self.ports.api,
                    "token": self.data.token("cli"),
                    "ui_token": self.data.token("ui"),
                    "app_url": self.data.app_url,
                    "similar_url": self.data.similar_url,
                    "telemetry_url": self.data.telemetry_url,
                    "nats_url": self.nats.nats_url,
                    "credentials": account.userinfo,
                    **self._log_settings(),
                    "mqtt_url": self.nats.mqtt_url,
                    "mqtt_username": replay.name,
                    "mqtt_password": replay.password,
                },
                "ledger": {"path": str(self.data.ledger.resolve())},
            },
        )

    def inference(self) -> Child:
        """Scores over HTTP, and of machines with no edge from the log."""
        account = self.nats.credentials("inference")
        return self._service(
            "inference",
            ("cloud", "run", "inference"),
            {
                "inference": {
                    "port": self.ports.inference,
                    "token": self.data.token("cli"),
                    "keys_url": f"http://127.0.0.1:{self.ports.api}/v1/keys",
                    "telemetry_url": self.data.telemetry_url,
                    "nats_url": self.nats.nats_url,
                    "credentials": account.userinfo,
                    **self._log_settings(),
                }
            },
        )

    def control_room(self) -> Child:
        """The pages in the browser; it knows the two HTTP APIs alone."""
        return self._service(
            "ui",
            ("cloud", "run", "ui"),
            {
                "ui": {
                    "port": self.ports.ui,
                    "api_url": f"http://127.0.0.1:{self.ports.api}",
                    "inference_url": f"http://127.0.0.1:{self.ports.inference}",
                    "token": self.data.token("ui"),
                    "session_key": self.data.secret("session.key"),
                    "site": self.plant.site,
                }
            },
        )

    def edge(self, machine: Machine) -> Child:
        """One agent a machine."""
        account = self.nats.credentials(machine.edge)
        folder = self.data.edge(machine.edge)
        told = {}
        if machine.operating_sensor and machine.off is not None:
            rule = {"sensor": machine.operating_sensor, "off": machine.off, "hysteresis": machine.off / 5}
            told = {"operating": {machine.id: rule}}
        return self._service(
            machine.edge,
            ("edge", "run"),
            {
                "edge": {
                    "site": self.plant.site,
                    "edge": machine.edge,
                    "machines": [machine.id],
                    "folder": str(folder.resolve()),
                    "nats_url": self.nats.nats_url,
                    "credentials": account.userinfo,
                    "token": self.data.token("metrics"),
                    "devices": self._mqtt(account, "devices"),
                    "uplink": self._mqtt(account, "uplink"),
                    **(self._vibration(machine) if self.waves_s else {}),
                    **told,
                }
            },
        )

    def _vibration(self, machine: Machine) -> dict[str, Any]:
        """What a person would enter for the simulator's vibration sensor. Its class is nobody's to guess, here either."""
        bearing = {
            "elements": BEARING.elements,
            "element_mm": BEARING.element_mm,
            "pitch_mm": BEARING.pitch_mm,
        }
        tells = "speed" in machine_type(machine.type).sensor_names
        speed = {"speed_sensor": "speed"} if tells else {"speed_rpm": NOMINAL_RPM}
        return {"vibration": {"points": {machine.id: {WAVE_SENSOR: {**speed, "bearing": bearing}}}}}

    def simulator(self, backfill_hours: float, on_line: Callable[[str], None]) -> Child:
        """The demonstration's machines."""
        account = self.nats.credentials("devices")
        return self._service(
            "sim",
            ("sim", "run"),
            {
                "sim": {
                    **self._mqtt(account, "sim", "mqtt_"),
                    "site": self.plant.site,
                    "machines": [f"{m.id}:{m.type}" for m in self.plant.machines],
                    "backfill_hours": backfill_hours,
                    "wave_s": self.waves_s,
                }
            },
            on_line,
        )

    def replay(self, machine: Machine, options: ReplayOptions, on_line: Callable[[str], None]) -> Child:
        """A recording as a live machine; it ends by itself."""
        account = self.nats.credentials("devices")
        optional = {
            "mapping": str(options.mapping.resolve()) if options.mapping else None,
            "interval_s": options.interval_s,
            "keep_columns": list(options.keep_columns) or None,
        }
        settings = {
            **self._mqtt(account, "sim", "mqtt_"),
            "site": self.plant.site,
            "file": str(options.file.resolve()),
            "machine": machine.id,
            "fit_rows": options.fit_rows,
            "speed": options.speed,
            **{key: value for key, value in optional.items() if value is not None},
        }
        return self._service("sim", ("sim", "replay"), {"replay": settings}, on_line, restart="on-failure")

    def trainer(self, job: Job, on_line: Callable[[str], None]) -> Child:
        """A short-lived child that does one job on the models; what it does comes as JSON lines."""
        command = (PYTHON, "-m", "industrialmind", "train", "--data", str(self.data.root), "--json")
        chosen = tuple(part for machine in job.machines for part in ("--machine", machine))
        flags = ("--missing",) * job.missing + ("--reconcile",) * job.reconcile + ("--due",) * job.due
        logs = self._log("trainer")
        return Child("trainer", command + chosen + flags, logs, on_line=on_line, nice=10, restart="never")

    def mlflow(self, port: int) -> Child:
        """MLflow's server: while it runs, it alone writes MLflow's database."""
        return self._service(
            "mlflow",
            ("cloud", "run", "mlflow"),
            {
                "mlflow": {
                    "port": port,
                    "store_url": self.data.mlflow_url,
                    "artifacts": str(self.data.mlflow_artifacts.resolve()),
                    "password": self.data.token("mlflow"),
                }
            },
        )

    def _log_settings(self) -> dict[str, str]:
        """Where the event log is, if not on the embedded nats-server."""
        url, credentials = self.plant.log_access("", "")
        return {"log_url": url, "log_credentials": credentials} if url else {}

    def _mqtt(self, account: Any, role: str, prefix: str = "") -> dict[str, str]:  # noqa: ANN401
        return {
            f"{prefix}url": self.nats.mqtt_url,
            f"{prefix}username": account.name,
            f"{prefix}password": account.password,
            f"{prefix}client_id": f"{account.client_id}-{role}",
        }

    def _service(
        self,
        name: str,
        command: tuple[str, ...],
        settings: Mapping[str, Mapping[str, Any]],
        on_line: Callable[[str], None] | None = None,
        *,
        restart: Literal["always", "on-failure"] = "always",
    ) -> Child:
        path = self.data.config(name)
        write_private(path, to_toml(settings))
        full = (PYTHON, "-m", "industrialmind", *command, "--config", str(path))
        return Child(name, full, self._log(name), on_line=on_line, restart=restart)

    def _log(self, name: str) -> Path:
        return self.data.logs / f"{name}.log"


def to_toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """TOML of nested tables of text, numbers, booleans and lists of text."""
    lines: list[str] = []
    for name, table in sections.items():
        lines.append(f"[{name}]")
        nested = {key: value for key, value in table.items() if isinstance(value, Mapping)}
        lines += [f"{key} = {_toml_value(value)}" for key, value in table.items() if key not in nested]
        lines.append("")
        if nested:
            lines.append(to_toml({f"{name}.{key}": value for key, value in nested.items()}))
    return "\n".join(lines)


def _toml_value(value: Any) -> str:  # noqa: ANN401 - any TOML value
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list() | tuple():
            return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return '"' + "".join(_escaped(letter) for letter in str(value)) + '"'


def _escaped(letter: str) -> str:
    """A character of a basic string: quotes, backslashes and control characters by their code (TOML 1.0)."""
    return letter if letter >= " " and letter not in '"\\\x7f' else f"\\u{ord(letter):04x}"
