"""The command line's HTTP client: what each answer becomes."""

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import orjson
import pytest

from industrialmind.client import Client
from industrialmind.plant import DataDir
from shared.errors import IndustrialMindError, NotFound, Rejected, Unavailable
from shared.http_errors import error_of
from shared.supervise import free_ports


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers what the path says: /STATUS/…"""

    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Authorization"]))
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()
        self.wfile.write(b'{"title": "the reason", "status": 1}')

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()
        key = (self.headers["Idempotency-Key"] or "").encode()
        self.wfile.write(b'{"title": "the reason", "key": "' + key + b'", "sent": ' + sent + b"}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_asks_with_its_token_and_reads_json(url: str) -> None:
    with Client(url, "secret") as client:
        assert client.get("/200/x", machine="pump-1")["title"] == "the reason"
    assert Answers.seen[-1] == ("/200/x?machine=pump-1", "Bearer secret")


def test_it_posts_json_with_a_key(url: str) -> None:
    with Client(url, "secret") as client:
        answer = client.post("/201/x", {"a": 1}, idempotency_key="k")
        assert (answer["sent"], answer["key"]) == ({"a": 1}, "k")
        assert client.post("/201/x", {})["key"] == ""
        with pytest.raises(Rejected, match="the reason"):
            client.post("/403/x", {})


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (404, NotFound, "the data API answered: the reason"),
        (401, Rejected, "answered 401: the reason"),
        (422, Rejected, "answered 422: the reason"),
        (429, Unavailable, "answered 429: the reason"),
        (500, Unavailable, "answered 500: the reason"),
        (503, Unavailable, "answered 503: the reason"),
    ],
)
def test_a_refusal_is_told_in_its_own_words(
    url: str, status: int, error: type[IndustrialMindError], said: str
) -> None:
    with Client(url, "secret") as client, pytest.raises(error, match=said):
        client.get(f"/{status}/x")


@pytest.mark.parametrize("text", ["plain words", "[1]", '{"detail": 1}'])
def test_an_answer_that_is_no_problem_document_is_quoted(text: str) -> None:
    assert text in str(error_of(502, text + " " * 500))
    assert len(str(error_of(502, text * 500))) < 400


def test_who_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    [port] = free_ports(1)
    data = DataDir(tmp_path)
    data.run_file.write_bytes(orjson.dumps({"pid": os.getpid(), "api": f"http://127.0.0.1:{port}"}))
    with Client.of(data) as client, pytest.raises(Unavailable, match="industrialmind doctor"):
        client.get("/v1/machines")


@pytest.mark.parametrize("run", [None, {"pid": os.getpid()}, {"pid": 2**22 + 1, "api": "http://x"}])
def test_without_a_plant_there_is_no_client(tmp_path: Path, run: dict[str, object] | None) -> None:
    data = DataDir(tmp_path)
    if run is not None:
        data.run_file.write_bytes(orjson.dumps(run))
    with pytest.raises(Unavailable, match="no plant is running"):
        Client.of(data)
