"""MLflow's server as `up --mlflow` starts it: nobody gets in without the password, and a trainer can write through it.

One real process for all tests of the night: its import takes seconds. The password is tested in this process too.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from cloud.training.mlflow.runs import anomaly_run
from cloud.training.mlflow.server import Password
from cloud.training.mlflow.settings import USER
from cloud.training.mlflow.tracking import Place, Version, open_tracking
from cloud.training.trained import Candidate
from industrialmind.children import to_toml
from shared.artifact import unpack
from shared.clock import ManualClock
from shared.errors import Unavailable
from shared.supervise import free_ports
from tests.models import packed

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and SQLAlchemy's own
UP_SECONDS = 90.0


@dataclass(frozen=True)
class Server:
    url: str
    artifacts: Path
    password: str = "a long one"

    def client(self, user: str = USER, password: str | None = None) -> httpx.Client:
        auth = (user, self.password if password is None else password)
        return httpx.Client(base_url=self.url, auth=auth, trust_env=False, timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlflow")
    [port] = free_ports(1)
    made = Server(f"http://127.0.0.1:{port}", folder / "artifacts")
    settings = {
        "port": port,
        "store_url": f"sqlite:///{folder / 'mlflow.db'}",
        "artifacts": str(made.artifacts),
        "password": made.password,
    }
    config = folder / "mlflow.toml"
    config.write_text(to_toml({"mlflow": settings}))
    command = [sys.executable, "-m", "industrialmind", "cloud", "run", "mlflow", "--config", str(config)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        wait_until_up(made.url, process, folder / "log")
        yield made
    finally:
        process.terminate()
        assert process.wait(20) == 0


def wait_until_up(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)  # between two looks at another process
    raise AssertionError(log.read_text())


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("user", "password"), [(USER, "wrong"), ("admin", "a long one"), ("", ""), ("ü", "a long one")]
)
def test_nobody_gets_in_without_the_password(server: Server, user: str, password: str) -> None:
    with server.client(user, password) as http:
        for path in ("/", "/api/2.0/mlflow/experiments/get?experiment_id=0", "/graphql", "/version"):
            answer = http.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Basic")


@pytest.mark.nightly
def test_odd_headers_are_no_password(server: Server) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        for header in ("Basic", "Basic ÿ", "Bearer x", "Basic !!!"):
            assert http.get("/", headers=[(b"Authorization", header.encode("latin-1"))]).status_code == 401
        assert http.get("/health").text == "OK"


@pytest.mark.nightly
def test_a_foreign_host_or_origin_is_refused_with_the_password_too(server: Server) -> None:
    with server.client() as http:
        assert http.get("/", headers={"Host": "evil.example"}).status_code == 403
        assert http.get("/", headers={"Host": "10.0.0.1:5011"}).status_code == 403
        path = "/api/2.0/mlflow/experiments/create"
        origin = {"Origin": "https://evil.example"}
        assert http.post(path, json={"name": "x"}, headers=origin).status_code == 403
        assert http.get("/").status_code == 200


@pytest.mark.nightly
def test_a_trainer_writes_through_it(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    place = Place(server.url, server.artifacts, USER, server.password)
    tracking = open_tracking(place, ManualClock(10**15))
    candidate = Candidate("window-pca", packed(), {"a": 1}, {"found": 0.5}, {"loss": (2.0, 1.0)})
    tracking.log_run(anomaly_run(candidate))
    version = Version("pump-1", 1, unpack(packed()).version_hash, "window-pca", ("champion",))
    assert tracking.unlogged([version]) == []
    tracking.reconcile([version])
    assert tracking.versions("pump-1") == {1: version.version_hash}
    assert tracking.aliases("pump-1") == {"champion": 1}
    assert [run["status"] for run in tracking.runs()] == ["FINISHED"]
    assert any(server.artifacts.rglob("model.zip"))
    assert capsys.readouterr().out == ""  # which is a command's own, as JSON


@pytest.mark.nightly
def test_a_server_that_refuses_or_is_away_is_unavailable(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.training.mlflow.tracking.QUIET", {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    with pytest.raises(Unavailable, match="can't be used"):
        open_tracking(Place(server.url, server.artifacts, USER, "wrong"), ManualClock())
    [port] = free_ports(1)
    with pytest.raises(Unavailable, match="can't be used"):
        open_tracking(Place(f"http://127.0.0.1:{port}", server.artifacts, USER, "x"), ManualClock())


async def test_the_password_is_asked_for_before_anything_is_reached() -> None:
    app = Password(PlainTextResponse("reached"), "a long one")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
        assert (await http.get("/health")).text == "reached"
        assert (await http.get("/", auth=(USER, "a long one"))).text == "reached"
        for header in (b"", b"Basic", b"Basic \xff", b"Basic !!!", b"Bearer YQ==", b"Basic YTpi"):
            answer = await http.get("/", headers=[(b"Authorization", header)])
            assert (answer.status_code, answer.text) == (401, "a password is needed\n"), header


async def test_websockets_are_closed() -> None:
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    async def nothing(*_: object) -> None:
        raise AssertionError("nothing behind it is reached")

    await Password(nothing, "x")({"type": "websocket", "path": "/"}, nothing, send)  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]
