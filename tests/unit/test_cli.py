"""The command line as a whole: help, exit codes, sentences for what is wrong."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from industrialmind import cli
from industrialmind.cli import exit_code
from shared.errors import Conflict, IndustrialMindError, Misconfigured, NotFound, Rejected, Unavailable
from tests.servers import NatsServer
from tests.unit.front_door import Command, commanding


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Misconfigured("x", hint="y"), 2),
        (Rejected("x"), 2),
        (Unavailable("x"), 3),
        (NotFound("x"), 1),
        (Conflict("x"), 1),
        (IndustrialMindError("x"), 1),
    ],
)
def test_each_error_has_its_exit_code(
    command: Command, monkeypatch: pytest.MonkeyPatch, error: IndustrialMindError, code: int
) -> None:
    assert exit_code(error) == code

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fails)
    outcome = command("status")
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err == f"industrialmind: {error}\n"


def test_help_names_every_command_and_keeps_brackets(command: Command) -> None:
    shown = command("--help")
    assert shown.code == 0
    for name in ("up", "status", "doctor", "config", "ledger", "score", "train", "models", "edge", "sim"):
        assert re.search(rf"^\s+{name}\b", shown.out, re.MULTILINE)
    assert "[replay] file" in command("sim", "replay", "--help").out


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("status", "--nonsense"),
        ("up", "--fit-rows", "10"),
        ("up", "--mapping", "/nowhere.yaml"),
        ("up", "--interval", "1"),
        ("edge", "run", "--config", "/nowhere.toml"),
        ("score", "--fit", "a.csv"),
    ],
)
def test_wrong_usage_is_2_and_says_why(command: Command, words: tuple[str, ...]) -> None:
    outcome = command(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Error" in outcome.err


def test_no_command_shows_help(command: Command) -> None:
    assert "Usage" in (outcome := command()).out + outcome.err
    assert outcome.code == 2


def test_only_services_that_exist_run(command: Command) -> None:
    outcome = command("cloud", "run", "alarms")
    assert outcome.code == 2
    assert "ingest, api" in outcome.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("edge", "run"), "edge.site"),
        (("cloud", "run", "ingest"), "ingest.nats_url"),
        (("cloud", "run", "api"), "api.nats_url"),
        (("sim", "replay"), "replay.file"),
    ],
)
def test_a_service_without_its_settings_names_the_first(
    command: Command, words: tuple[str, ...], named: str
) -> None:
    outcome = command(*words)
    assert outcome.code == 2
    assert named in outcome.err


@pytest.mark.parametrize(
    "words",
    [
        ("edge", "run"),
        ("gateway", "run"),
        ("cloud", "run", "ingest"),
        ("cloud", "run", "api"),
        ("sim", "run"),
        ("sim", "replay", "x.csv"),
        ("up",),
        ("config", "show"),
        ("config", "validate"),
    ],
)
def test_a_mistyped_variable_stops_every_start(
    command: Command, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("IM_EDG__PORT", "7")
    outcome = command(*words)
    assert outcome.code == 2
    assert "IM_EDG__PORT" in outcome.err
    assert "sections are edge, gateway" in outcome.err


def test_services_end_with_2_when_the_server_refuses_them(
    command: Command, tmp_path: Path, nats_server: NatsServer
) -> None:
    mqtt = f"mqtt://127.0.0.1:{nats_server.mqtt_port}"
    path = tmp_path / "plant.toml"
    path.write_text(
        f"""
        [gateway]
        mqtt_url = "{mqtt}"
        nats_url = "{nats_server.url}"
        credentials = "admin:wrong"
        [ingest]
        nats_url = "{nats_server.url}"
        credentials = "admin:wrong"
        telemetry_url = "sqlite:///{tmp_path}/t.db"
        [api]
        nats_url = "{nats_server.url}"
        credentials = "admin:wrong"
        telemetry_url = "sqlite:///{tmp_path}/t.db"
        token = "t"
        """
    )
    for words in (("gateway", "run"), ("cloud", "run", "ingest"), ("cloud", "run", "api")):
        outcome = command(*words, "--config", path)
        assert outcome.code == 2, (words, outcome.err)
        assert "refuse" in outcome.err or "not authorized" in outcome.err.lower(), (words, outcome.err)


def test_an_edge_whose_folder_can_not_be_is_misconfigured(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "edge.toml"
    path.write_text(
        f"""
        [edge]
        site = "s1"
        edge = "e1"
        machines = ["m1"]
        folder = "{tmp_path}/file/edge"
        devices = {{ url = "mqtt://127.0.0.1:1", client_id = "a" }}
        uplink = {{ url = "mqtt://127.0.0.1:1", client_id = "b" }}
        """
    )
    outcome = command("edge", "run", "--config", path)
    assert outcome.code == 2
    assert "hint" in outcome.err


def test_a_replay_says_what_is_wrong_with_its_recording(command: Command, tmp_path: Path) -> None:
    outcome = command("sim", "replay", tmp_path / "none.csv", "--mqtt-url", "mqtt://127.0.0.1:1")
    assert outcome.code == 2
    assert "can't read" in outcome.err
    counted = tmp_path / "counted.csv"
    counted.write_text("n,a,label\n1,2,0\n2,3,1\n")
    outcome = command("sim", "replay", counted)
    assert outcome.code == 2
    assert "--interval" in outcome.err


def test_a_replays_flags_reach_the_broker(
    command: Command, tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each flag is seen in what is sent: one row a second, the label kept, on the site's topics."""
    counted = tmp_path / "counted.csv"
    counted.write_text("n,a,label\n1,2,0\n2,3,1\n")
    url = f"mqtt://127.0.0.1:{nats_server.mqtt_port}"
    monkeypatch.setenv("IM_REPLAY__MQTT_PASSWORD", "secret")
    flags = ("--mqtt-url", url, "--username", "admin", "--machine", "m", "--site", "hall-2", "--speed", "0")
    outcome = command(
        "sim", "replay", counted, "--interval", "1", "--keep-column", "label", "--fit-rows", "1", *flags
    )
    assert outcome.code == 0, outcome.err
    assert '"readings":2' in outcome.out
    assert '"machine":"replay-m"' in outcome.out
    first, second = outcome.out.splitlines()
    assert "fit-part-sent" in first
    assert "replayed" in second


def test_datasets_are_written_where_asked(command: Command, tmp_path: Path) -> None:
    words = ("--hours", "2", "--machine", "centrifugal-pump", "--interval", "10", "--seed", "3")
    outcome = command("sim", "dataset", "--out", tmp_path / "set", *words)
    assert outcome.code == 0
    assert outcome.out.splitlines()
    assert all(Path(line).is_file() for line in outcome.out.splitlines())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "can't be read"),
        ("", "first line"),
        ("time,a\nyesterday,1\n", "'yesterday' is not a time"),
        ("time,a\n1,2\n2,much\n", "line 3, column 'a': 'much' is not a number"),
        ("time,a\n1,2\n2,3,4\n", "line 3: 3 columns"),
    ],
)
def test_a_bad_file_to_score_is_named_with_its_place(
    command: Command, tmp_path: Path, text: str | None, said: str
) -> None:
    path = tmp_path / "rows.csv"
    if text is not None:
        path.write_text(text)
    outcome = command("score", "--fit", path, "--test", path, "--out", tmp_path / "out.csv")
    assert (outcome.code, outcome.out) == (2, "")
    assert "rows.csv" in outcome.err
    assert said in outcome.err
    assert not (tmp_path / "out.csv").exists()


def test_a_score_is_told_in_words_or_json(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = "\n".join(f"{n},{n % 7},{(n * 3) % 11}" for n in range(400))
    path.write_text(f"time,a,b\n{rows}\n")
    words = ("score", "--fit", path, "--test", path, "--out", tmp_path / "out.csv")
    told = command(*words)
    assert told.code == 0
    assert told.out.startswith("400 rows, ")
    assert command(*words, "--json").json["rows"] == 400


def test_the_module_is_the_console_script(monkeypatch: pytest.MonkeyPatch) -> None:
    import runpy  # noqa: PLC0415

    monkeypatch.setattr(sys, "argv", ["industrialmind", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("industrialmind", run_name="__main__")
    assert not ended.value.code
