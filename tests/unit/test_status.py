"""`industrialmind status`: from a stopped plant's files, and how each state looks."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cloud.api.logic import machine_status
from industrialmind import status
from industrialmind.plant import DataDir
from industrialmind.status import age_text, render, watch_status
from shared.errors import Unavailable
from tests.unit.front_door import (
    T0,
    Command,
    anomaly_ended,
    anomaly_started,
    commanding,
    event,
    readings,
    reported,
    stopped_plant,
)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


def machine(state: str, name: str = "pump-1", **part: Any) -> dict[str, Any]:  # noqa: ANN401 - a report's fields
    report = {"machines": {name: reported(state, **part)}}
    made = machine_status(name, "s1", f"edge-{name}", report, now_us=T0 + 1_500_000, stale_after=10)
    return made.model_dump(mode="json")


def text(*machines: dict[str, Any], **console: Any) -> str:  # noqa: ANN401 - rich's options
    shown = Console(width=200, markup=False, highlight=False, **console)
    with shown.capture() as captured:
        shown.print(render(machines, []))
    return captured.get()


def test_a_stopped_plant_is_shown_from_its_files(command: Command, tmp_path: Path) -> None:
    ended, began = event(2, anomaly_ended()), event(1, anomaly_started())
    stopped_plant(tmp_path, readings(10), began, ended)
    shown = command("status", "--data", tmp_path)
    assert shown.code == 0
    [fan] = [line for line in shown.out.splitlines() if " fan-1 " in line]
    assert "? unknown" in fan
    assert "no data" in fan
    lines = [line for line in shown.out.splitlines() if " pump-1 " in line]
    assert "▧ stale" in lines[0]
    assert "l/min" in shown.out
    assert "2026-01-01 01:00:00" in lines[1]
    assert "flow 90%: 31.5 [l/min], expected 52.25" in lines[1]  # a unit in brackets is no markup
    told = command("status", "--data", tmp_path, "--json").json
    pump = next(m for m in told["machines"] if m["machine"] == "pump-1")
    assert [last["sensor"] for last in pump["last"]] == ["flow", "pressure", "speed", "temperature"]
    assert pump["edge"] == "edge-pump-1"
    assert pump["data_age_seconds"] > 0
    assert told["anomalies"][0]["score"] == 5.0


def test_a_folder_without_a_plant_says_how_to_start_one(command: Command, tmp_path: Path) -> None:
    outcome = command("status", "--data", tmp_path / "none")
    assert outcome.code == 3
    assert "industrialmind up" in outcome.err
    assert not (tmp_path / "none").exists()
    stopped_plant(tmp_path).plant_file.unlink()
    outcome = command("status", "--data", tmp_path)
    assert outcome.code == 1
    assert "no plant yet" in outcome.err


@pytest.mark.parametrize(
    ("state", "part", "said"),
    [
        ("learning", {"limit": None, "score": None, "sha256": None}, ("◌ learning", "no model yet")),
        ("normal", {}, ("● normal", "0.50 / 1.00", "window-pca v2 (provisional)", "flow 1 l/min", "1.5 s")),
        ("normal", {"provisional": False}, ("window-pca v2\n", "abababababab")),
        ("normal", {"score": None}, ("unscored (waiting for a full window)",)),
        ("normal", {"score": None, "reason": "masked"}, ("unscored (masked)",)),
        ("anomalous", {}, ("▲ ANOMALOUS", "flow 100%: 1 l/min, expected 2")),
        ("anomalous", {"leading": []}, ("▲ ANOMALOUS",)),
        ("normal", {"arrival_us": 0}, ("▧ stale", " h ")),
        ("normal", {"arrival_us": None}, ("? unknown", "no data")),
        ("normal", {"last": {"flow": {"value": 1490.25, "unit": "rpm", "ts": T0}}}, ("flow 1490 rpm",)),
    ],
)
def test_each_state_has_its_mark_and_words(state: str, part: dict[str, Any], said: tuple[str, ...]) -> None:
    shown = text(machine(state, **part))
    for each in said:
        assert each.strip() in shown


def test_a_leading_sensor_may_have_no_expected_value() -> None:
    leading = [{"sensor": "flow", "share": 1.0, "seen": 1.0, "expected": None, "unit": "bar"}]
    found = machine("anomalous")
    found["leading"] = leading
    assert "flow 100%: 1 bar, expected –" in text(found)  # noqa: RUF001 - a dash for no value


def test_machines_in_trouble_come_first() -> None:
    shown = text(
        machine("normal", "a"),
        machine("learning", "b"),
        machine("anomalous", "c"),
        machine("normal", "d", arrival_us=0),
        machine("normal", "e", arrival_us=None),
    )
    names = [
        line.split()[1] for line in shown.splitlines() if line.startswith("│") and line.split()[1] in "abcde"
    ]
    assert names == ["c", "d", "e", "b", "a"]


def test_colour_is_left_out_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine("anomalous")
    assert "\x1b[1;31m" in text(found, force_terminal=True, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    assert status._console().no_color
    assert "\x1b[1;31m" not in text(found, force_terminal=True, color_system="standard", no_color=True)


def test_without_anomalies_that_is_said() -> None:
    assert "No anomalies." in text(machine("normal"))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "no data"),
        (0.04, "0.0 s"),
        (119, "119.0 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2.0 h"),
    ],
)
def test_ages(seconds: float | None, shown: str) -> None:
    assert age_text(seconds) == shown


def test_watching_goes_on_while_the_plant_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A look a second until Ctrl-C; here the looks themselves tell the time."""
    looks: list[Callable[[], tuple[list[dict[str, Any]], list[dict[str, Any]]]]] = [
        lambda: ([machine("normal")], []),
        _away,
        lambda: ([machine("anomalous")], []),
        _interrupt,
    ]
    monkeypatch.setattr(status, "read", lambda _: looks.pop(0)())
    monkeypatch.setattr(status, "_REFRESH_SECONDS", 0.0)
    watch_status(tmp_path)
    assert "ANOMALOUS" in capsys.readouterr().out
    assert not looks


def test_watching_says_that_nothing_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks: list[Callable[[], Any]] = [lambda: status_of_nothing(tmp_path), _interrupt]
    monkeypatch.setattr(status, "read", lambda _: looks.pop(0)())
    monkeypatch.setattr(status, "_REFRESH_SECONDS", 0.0)
    watch_status(tmp_path)
    assert "trying again" in capsys.readouterr().out


READ = status.read


def status_of_nothing(root: Path) -> Any:  # noqa: ANN401 - it only raises
    return READ(DataDir(root))


def _away() -> Any:  # noqa: ANN401 - it only raises
    raise Unavailable("the data API does not answer")


def _interrupt() -> Any:  # noqa: ANN401 - it only raises
    assert threading.current_thread() is threading.main_thread()
    raise KeyboardInterrupt


def test_a_watched_table_gives_each_machine_few_lines() -> None:
    many = {f"sensor-{n}": {"value": 1.0, "unit": "bar", "ts": T0} for n in range(20)}
    shown = Console(width=120, markup=False)
    with shown.capture() as long:
        shown.print(render([machine("normal", last=many), machine("unknown", "pump-2", last={})], []))
    with shown.capture() as short:
        shown.print(
            render([machine("normal", last=many), machine("unknown", "pump-2", last={})], [], short=True)
        )
    assert "sensor-19" in long.get()
    assert "…" in short.get()
    assert len(short.get().splitlines()) <= 10 < len(long.get().splitlines())


def test_a_plain_number_has_no_unit_to_show() -> None:
    shown = text(machine("normal", last={"ratio": {"value": 0.5, "unit": "1", "ts": T0}}))
    assert "ratio 0.5 " in shown
    assert "ratio 0.5 1" not in shown
