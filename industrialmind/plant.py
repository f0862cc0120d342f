"""What a plant consists of, and where `industrialmind up` keeps its files."""

import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import orjson

from industrialmind.grants import EdgeScope
from shared.errors import Misconfigured, NotFound
from shared.names import check_id

DEFAULT_DATA: Final = Path("industrialmind-data")
DEMO_SITE: Final = "demo"


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, what kind it is, and the edge that looks after it.

    `operating_sensor` tells its operating point: outside the range that training saw of it nothing is judged. At or
    below `off` of it the machine is off; with nothing told, nobody knows its state.
    """

    id: str
    type: str
    operating_sensor: str = ""
    off: float | None = None

    @property
    def edge(self) -> str:
        """The id of its edge agent."""
        return f"edge-{self.id}"[:40].rstrip("-")


@dataclass(frozen=True, slots=True)
class Plant:
    """A site, its machines, and the URL of its event log (empty: the embedded one), which may hold USER:PASSWORD@."""

    site: str
    machines: tuple[Machine, ...]
    log: str = ""

    def edges(self) -> tuple[EdgeScope, ...]:
        """What each edge may touch."""
        return tuple(EdgeScope(self.site, machine.edge, (machine.id,)) for machine in self.machines)

    def log_access(self, nats_url: str, credentials: str) -> tuple[str, str]:
        """URL and credentials of the event log; `nats_url` and its credentials where that is the embedded one."""
        if not self.log:
            return nats_url, credentials
        parts = urlsplit(self.log)
        userinfo, _, place = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=place)), unquote(userinfo)

    def to_json(self) -> bytes:
        """As kept in DATA/plant.json."""
        machines = [
            {"id": m.id, "type": m.type, "operating_sensor": m.operating_sensor, "off": m.off}
            for m in self.machines
        ]
        made = {"site": self.site, "machines": machines} | ({"log": self.log} if self.log else {})
        return orjson.dumps(made, option=orjson.OPT_INDENT_2)

    @classmethod
    def from_json(cls, data: bytes) -> "Plant":
        """Read back. Raises Misconfigured."""
        try:
            raw = orjson.loads(data)
            machines = tuple(
                Machine(
                    check_id(m["id"]), check_id(m["type"]), str(m.get("operating_sensor", "")), m.get("off")
                )
                for m in raw["machines"]
            )
            return cls(check_id(raw["site"]), machines, str(raw.get("log", "")))
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise Misconfigured(
                f"plant.json can't be read: {error}", hint="remove it and run up again"
            ) from error


# Off is at or below a twentieth of what each does at full load.
DEMO_PLANT: Final = Plant(
    DEMO_SITE,
    (
        Machine("pump-01", "centrifugal-pump", "speed", 150.0),
        Machine("compressor-01", "screw-compressor", "capacity", 5.0),
        Machine("spindle-01", "machining-spindle", "speed", 600.0),
        Machine("gearbox-01", "conveyor-gearbox", "speed", 4.4),
        Machine("fan-01", "extraction-fan", "speed", 74.0),
    ),
)


@dataclass(frozen=True, slots=True)
class DataDir:
    """The layout of DATA. Every path that two processes share is named here."""

    root: Path

    @property
    def secrets(self) -> Path:
        """Passwords and tokens, directory 0700, files 0600."""
        return self.root / "secrets"

    @property
    def telemetry_url(self) -> str:
        """The embedded telemetry store."""
        return f"sqlite:///{self.telemetry.resolve()}"

    @property
    def telemetry(self) -> Path:
        """The telemetry store's file."""
        return self.root / "telemetry.db"

    @property
    def ledger(self) -> Path:
        """The ledger's snapshot."""
        return self.root / "ledger.json"

    @property
    def app_url(self) -> str:
        """What is no event: login links, later users and tokens."""
        return f"sqlite:///{(self.root / 'app.db').resolve()}"

    @property
    def similar_url(self) -> str:
        """Vectors of anomalies: derived from the telemetry store."""
        return f"chroma+file://{quote(str((self.root / 'similar').resolve()))}"

    @property
    def logs(self) -> Path:
        """Each process's log."""
        return self.root / "logs"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and the runs' files: derived from the log, but for the curves of the runs."""
        return self.root / "mlflow"

    @property
    def mlflow_url(self) -> str:
        """The embedded database of MLflow."""
        return f"sqlite:///{(self.mlflow / 'mlflow.db').resolve()}"

    @property
    def mlflow_artifacts(self) -> Path:
        """The runs' files."""
        return self.mlflow / "artifacts"

    @property
    def reconciled(self) -> Path:
        """Through which position of the `models` topic MLflow and the edges' desired state were brought."""
        return self.mlflow / "reconciled.json"

    @property
    def trainer_lock(self) -> Path:
        """Held by the one trainer that works."""
        return self.root / "trainer.lock"

    @property
    def training(self) -> Path:
        """Runs of the trainer that have begun, and how far their networks came."""
        return self.root / "training"

    @property
    def run_file(self) -> Path:
        """What runs now: pid and URLs."""
        return self.root / "run.json"

    @property
    def plant_file(self) -> Path:
        """The plant that this DATA belongs to."""
        return self.root / "plant.json"

    def edge(self, edge: str) -> Path:
        """An edge agent's own folder: its outbox and models."""
        return self.root / "edges" / edge

    def outbox(self, edge: str) -> Path:
        """An edge agent's outbox."""
        return self.edge(edge) / "outbox.db"

    def config(self, process: str) -> Path:
        """A process's TOML, 0600: it holds credentials."""
        return self.root / "run" / f"{process}.toml"

    def token(self, name: str) -> str:
        """The secret `name`, made at first use and kept in DATA/secrets/NAME.token."""
        return self.secret(f"{name}.token")

    def secret(self, file_name: str) -> str:
        """The text of a secret file, made at first use."""
        self.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.secrets / file_name
        if not path.exists():
            write_private(path, secrets.token_urlsafe(32))
        return path.read_text(encoding="utf-8").strip()

    def plant(self) -> Plant:
        """The plant kept here. Raises NotFound."""
        try:
            return Plant.from_json(self.plant_file.read_bytes())
        except FileNotFoundError as error:
            raise NotFound(f"{self.root} holds no plant yet: run industrialmind up") from error

    def running(self) -> Mapping[str, Any] | None:
        """The contents of run.json if that process is alive, else None."""
        try:
            run = orjson.loads(self.run_file.read_bytes())
            os.kill(run["pid"], 0)
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
            return None
        found: Mapping[str, Any] = run
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold DATA for this process. Raises Misconfigured if another has it."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Misconfigured(
                    f"{self.root} is in use by another industrialmind up",
                    hint="stop it, or choose another folder with --data",
                ) from error
            yield


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    write_private_bytes(path, text.encode())


def write_private_bytes(path: Path, content: bytes) -> None:
    """The same of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
