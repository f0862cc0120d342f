"""`config show` and `config validate`: origins, secrets, and each layer's mistakes by name."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from industrialmind.sections import SECTIONS, settings_class
from shared.errors import Misconfigured
from shared.settings import check_sections
from tests.unit.front_door import Command, commanding


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "plant.toml"
    made.write_text(
        '[gateway]\nmqtt_password = "hush"\nnats_url = "nats://me:pa55@host:4222"\nnumber = 3\n'
        '[sim]\nsite = "[bold]hall"\n'
    )
    return made


@pytest.mark.parametrize("section", SECTIONS)
def test_each_section_has_its_class(section: str) -> None:
    assert settings_class(section).section == section


def test_values_are_shown_with_their_origin_and_no_secret(
    command: Command, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IM_GATEWAY__BATCH_MESSAGES", "7")
    shown = command("config", "show", "gateway", "--origin", "--json", "--config", path)
    assert shown.code == 0
    rows = {row["setting"]: (row["value"], row["origin"]) for row in shown.json}
    assert rows["gateway.number"] == ("3", f"file {path}")
    assert rows["gateway.batch_messages"] == ("7", "environment")
    assert rows["gateway.direct"] == ("True", "default")
    assert rows["gateway.mqtt_password"] == ("********", f"file {path}")
    assert rows["gateway.nats_url"][0] == "nats://me:********@host:4222"
    table = command("config", "show", "gateway", "--origin", "--config", path)
    assert "environment" in table.out
    assert "hush" not in table.out + shown.out
    assert "pa55" not in table.out + shown.out


def test_all_sections_are_shown_and_those_that_lack_something_say_what(command: Command, path: Path) -> None:
    shown = command("config", "show", "--config", path)
    assert shown.code == 0
    assert re.search(r"sim\.site\s+│ \[bold\]hall", shown.out)  # values are no markup
    assert "origin" not in shown.out
    assert "setting edge.site" in shown.err
    assert "setting replay.file" in shown.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "edg"), "no section 'edg'"),
        (("show", "edge"), "edge.site (from default): Field required"),
        (("validate",), "nothing to validate"),
    ],
)
def test_what_can_not_be_shown_is_said(command: Command, words: tuple[str, ...], said: str) -> None:
    outcome = command("config", *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert "hint" in outcome.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[edg]\nport = 1\n", "section 'edg'"),
        ("edge = 3\n", "'edge' is not a table"),
        ("[sim]\ncolour = 1\n", "sim.colour (from file"),
        ("[sim]\nspeed = 0.5\n", "sim.speed (from file"),
        ("[sim\n", "is not TOML"),
    ],
)
def test_a_files_mistakes_are_named(command: Command, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    outcome = command("config", "validate", "--config", path)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("IM_SIM__COLOUR", "sim.colour (from environment)"),
        ("IM_SIM__SEED", "sim.seed (from environment)"),
        ("IM_SMI__SEED", "IM_SMI__SEED in the environment sets nothing"),
        ("IM_SIM_SEED", "IM_SIM_SEED in the environment sets nothing"),
        ("IM_sim__SEED", "IM_sim__SEED in the environment sets nothing"),
    ],
)
def test_the_environments_mistakes_are_named(
    command: Command, path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv(name, "-1")
    for words in (("--config", path), ()):
        outcome = command("config", "validate", *words)
        assert outcome.code == 2
        assert said in outcome.err


def test_what_is_right_is_said_to_be(command: Command, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("config", "validate", "--config", path).out == f"{path}: gateway, sim: valid\n"
    monkeypatch.setenv("IM_SIM__SEED", "4")
    assert command("config", "validate").out == "environment: sim: valid\n"
    monkeypatch.setenv("IM_CONFIG", str(path))
    assert command("config", "validate").out == f"{path}: gateway, sim: valid\n"


def test_sections_are_those_of_the_file_else_of_the_environment(tmp_path: Path) -> None:
    environ = {"IM_EDGE__PORT": "1", "IM_EDGE__HOST": "h", "PATH": "", "IM_DATASETS": "x"}
    assert check_sections(SECTIONS, environ=environ) == ("edge",)
    path = tmp_path / "a.toml"
    path.write_text("[sim]\n")
    assert check_sections(SECTIONS, environ={**environ, "IM_CONFIG": str(path)}) == ("sim",)
    with pytest.raises(Misconfigured, match="can't read"):
        check_sections(SECTIONS, toml=tmp_path / "none.toml", environ={})
