"""`industrialmind assets` and `work-orders`, on a running plant and on a stopped one's files."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.front_door import Command, RunningPlant, commanding, stopped_plant


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlant]:
    running = RunningPlant(tmp_path_factory.mktemp("plant") / "data")
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


def appeared(command: Command, root: Path) -> None:
    """Wait until the history's sensors are assets."""
    for _ in range(200):
        if len(command("assets", "list", "--kind", "sensor", "--data", root, "--json").json) == 4:
            return
        threading.Event().wait(0.05)  # another thread sees them
    raise AssertionError("no sensors appeared")


def test_assets_appear_and_are_edited_out_and_in(
    command: Command, plant: RunningPlant, tmp_path: Path
) -> None:
    root = plant.data.root
    appeared(command, root)
    listed = command("assets", "list", "--data", root)
    assert "edge-pump-1" in listed.out
    assert command("assets", "list", "--text", "FAN", "--data", root, "--json").json[0]["id"] == "fan-1"
    done = command("assets", "set", "sensor", "pump-1.flow", "normal_low=48", "name==Flow", "--data", root)
    assert done.out == "sensor pump-1.flow is at revision 2\n"
    again = command("assets", "set", "sensor", "pump-1.flow", "normal_low=48", "--data", root)
    assert again.out == "sensor pump-1.flow was so already, at revision 2\n"
    made = command(
        "assets", "set", "component", "pump-1.seal", 'attributes={"rings": 2}', "--data", root, "--json"
    )
    assert made.json["asset"]["fields"] == {"attributes": {"rings": 2}}
    shown = command("assets", "show", "sensor", "pump-1.flow", "--data", root)
    assert [
        line.split()[-1] for line in shown.out.splitlines() if "normal_low" in line or "unit" in line
    ] == ["edited", "observed"]

    for file in (tmp_path / "plant.csv", tmp_path / "plant.yaml"):
        assert command("assets", "export", file, "--data", root).code == 0
        same = command("assets", "import", file, "--data", root)
        assert (same.code, same.out, same.err) == (0, "", "0 changed\n")
    sheet = (tmp_path / "plant.csv").read_text()
    assert ",'=Flow," in sheet
    (tmp_path / "plant.csv").write_text(sheet.replace("'=Flow", "Flow").replace("48.0", "-1.5"))
    dry = command("assets", "import", tmp_path / "plant.csv", "--dry-run", "--data", root)
    assert dry.out.endswith("change sensor pump-1.flow  name: =Flow -> Flow, normal_low: 48.0 -> -1.5\n")
    assert dry.err == "1 would change\n"
    assert command("assets", "import", tmp_path / "plant.csv", "--data", root, "--json").json["applied"]
    flow = command("assets", "show", "sensor", "pump-1.flow", "--data", root, "--json").json
    assert flow["fields"]["normal_low"] == -1.5


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("set", "ship", "s", "name=x"), 2, "no kind"),
        (("set", "sensor", "pump-1.flow", "colour=red"), 2, "FIELD=VALUE"),
        (("set", "sensor", "pump-1.flow", "range_low=low"), 2, "no number"),
        (("set", "machine", "pump-1", "site=nowhere"), 2, "no site 'nowhere' in use"),
        (("show", "sensor", "pump-1.none"), 1, "there is no sensor"),
        (("import", "/none.csv"), 2, "can't be read"),
        (("import", "/none.txt"), 2, "neither YAML nor CSV"),
        (("export", "/none/x.csv"), 2, "can't be written"),
    ],
)
def test_mistakes_are_told(
    command: Command, plant: RunningPlant, words: tuple[str, ...], code: int, said: str
) -> None:
    outcome = command("assets", *words, "--data", plant.data.root)
    assert (outcome.code, said in outcome.err) == (code, True), outcome.err


def test_a_file_s_faults_are_told_with_their_lines(
    command: Command, plant: RunningPlant, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("machines:\n- id: A\n- id: pump-9\n  site: none\n")
    outcome = command("assets", "import", file, "--data", plant.data.root)
    assert outcome.code == 2
    assert "line 2: " in outcome.err
    assert "line 3: site: " in outcome.err


def test_an_asset_goes_out_of_use_and_comes_back(command: Command, plant: RunningPlant) -> None:
    root = plant.data.root
    appeared(command, root)
    assert command("assets", "set", "area", "s1-hall", "site=s1", "--data", root).code == 0
    gone = command("assets", "retire", "area", "s1-hall", "--why", "torn down", "--data", root)
    assert gone.out == "area s1-hall is out of use, at revision 2\n"
    assert command("assets", "list", "--kind", "area", "--data", root, "--json").json == []
    assert "retired: torn down" in command("assets", "show", "area", "s1-hall", "--data", root).out
    back = command("assets", "restore", "area", "s1-hall", "--data", root, "--json")
    assert back.json["asset"]["revision"] == 3
    again = command("assets", "restore", "area", "s1-hall", "--data", root)
    assert again.out == "area s1-hall is in use already, at revision 3\n"
    assert command("assets", "retire", "area", "none", "--why", "x", "--data", root).code == 1


def test_a_counter_begins_at_nought_again(command: Command, plant: RunningPlant) -> None:
    root = plant.data.root
    appeared(command, root)
    told = command("counters", "set", "pump-1.run-hours", "812.5", "--data", root)
    assert told.out == "pump-1.run-hours stands at 812.5\n"
    reset = command("counters", "reset", "pump-1.run-hours", "--reason", "new pump", "--data", root)
    assert reset.out == "pump-1.run-hours stands at 0; it stood at 812.5\n"
    [counter] = command("counters", "list", "--machine", "pump-1", "--data", root, "--json").json
    assert (counter["value"], counter["resets"][0]["reason"]) == (0.0, "new pump")
    assert command("counters", "list", "--machine", "fan-1", "--data", root, "--json").json == []
    assert command("counters", "reset", "pump-1.none", "--reason", "x", "--data", root).code == 1


def test_work_orders_are_opened_and_closed(command: Command, plant: RunningPlant) -> None:
    root = plant.data.root
    appeared(command, root)
    opened = command("work-orders", "open", "pump-1", "Look", "--priority", "high", "--data", root)
    name = opened.out.split()[0]
    assert opened.out == f"{name} is open: Look\n"
    assert "Look" in command("work-orders", "list", "--status", "open", "--data", root).out
    closed = command("work-orders", "close", name, "--failure-code", "VIB", "--data", root, "--json")
    assert closed.json["work_order"]["failure_code"] == "VIB"
    assert command("work-orders", "list", "--status", "open", "--data", root, "--json").json == []


def test_they_are_made_anew_from_the_log(command: Command, plant: RunningPlant) -> None:
    root = plant.data.root
    appeared(command, root)
    before = command("assets", "export", "--data", root).out
    assert "assets rebuilt" in command("rebuild", "assets", "--data", root).out
    assert command("assets", "export", "--data", root).out == before


def test_a_stopped_plant_is_read_from_its_files(
    command: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("stopped") / "data"
    plant = RunningPlant(root)
    try:
        plant.start()
        appeared(command, root)
        command("work-orders", "open", "pump-1", "Look", "--data", root)
    finally:
        plant.stop()
    assert "pump-1.flow" in command("assets", "list", "--kind", "sensor", "--data", root).out
    assert (
        command("assets", "show", "machine", "pump-1", "--data", root, "--json").json["fields"]["site"]
        == "s1"
    )
    assert (
        command("work-orders", "list", "--machine", "pump-1", "--data", root, "--json").json[0]["title"]
        == "Look"
    )
    text = command("assets", "export", "--data", root).out
    assert command("rebuild", "assets", "--data", root).code == 0
    assert command("assets", "export", "--data", root).out == text
    assert command("assets", "set", "machine", "pump-1", "name=x", "--data", root).code == 3
    assert command("assets", "show", "machine", "none", "--data", root).code == 1


def test_where_no_plant_ever_ran_there_is_nothing_to_read(command: Command, tmp_path: Path) -> None:
    assert command("assets", "list", "--data", tmp_path).code == 1
    stopped_plant(tmp_path)
    assert command("assets", "list", "--data", tmp_path).code == 3
