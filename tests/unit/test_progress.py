"""How a command tells how far it is: on a terminal, to a program, into a file."""

import orjson
import pytest

from industrialmind.progress import Teller
from shared.clock import ManualClock


async def test_a_program_gets_a_line_a_phase_and_twice_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    clock = ManualClock()
    await clock.advance(10)
    with Teller("telemetry", clock, json=True) as tell:
        told = tell.phase("reading")
        for done in range(4):
            told(done, 10)
            await clock.advance(0.3)
        told(10, 10)
        tell.done(records=10)
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line.get("done")) for line in lines] == [
        ("phase", None),
        ("progress", 0),
        ("progress", 2),
        ("progress", 10),
        ("done", None),
    ]
    assert lines[-1] == {"name": "telemetry", "event": "done", "records": 10}


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Teller("telemetry", ManualClock(), json=False) as tell:
        tell.phase("reading")(5, 10)
        tell.phase("taking over")(1, 1)
        tell.done(records=10)
    out, err = capsys.readouterr()
    assert out == ""
    assert "taking over" in err


def test_a_file_gets_a_line_a_phase(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with Teller("telemetry", ManualClock(), json=False) as tell:
        tell.phase("reading")(5, 10)
    assert capsys.readouterr().err == "telemetry: reading\n"
