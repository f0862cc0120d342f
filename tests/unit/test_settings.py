"""Settings: the four layers, where each value came from, and how a wrong one is named."""

from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from shared.errors import Misconfigured
from shared.settings import (
    CONFIG_FILE_VARIABLE,
    DATASETS_VARIABLE,
    ServiceSettings,
    child_environment,
    datasets_dir,
    load,
    no_color,
)


class Buffer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=1000, gt=0)
    policy: str = "oldest"


class Pump(ServiceSettings):
    section: ClassVar[str] = "pump"

    name: str = "p"
    speed: float = 1.0
    sensors: list[str] = Field(default_factory=list)
    limits: dict[str, float] = Field(default_factory=dict)
    token: SecretStr = SecretStr("")
    url: str = ""
    buffer: Buffer = Buffer()

    @model_validator(mode="after")
    def _speed_needs_a_name(self) -> Self:
        if self.speed > 100 and not self.name:
            raise ValueError("a fast pump needs a name")
        return self


def toml(folder: Path, text: str) -> Path:
    path = folder / "plant.toml"
    path.write_text(text, encoding="utf-8")
    return path


def origins(**layers: Any) -> dict[str, tuple[str, str]]:  # noqa: ANN401 - the arguments of load
    return {key: (value, origin) for key, value, origin in load(Pump, **{"environ": {}, **layers}).rows()}


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    path = toml(
        tmp_path, "[pump]\nname = 'file'\nspeed = 2.0\n[pump.buffer]\nmax_bytes = 5\npolicy = 'file'\n"
    )
    environ = {"IM_PUMP__NAME": "env", "IM_PUMP__BUFFER__MAX_BYTES": "6", "IM_OTHER__NAME": "no"}
    found = origins(toml=path, environ=environ, flags={"name": "flag", "speed": None})
    assert found["name"] == ("flag", "flag")
    assert found["speed"] == ("2.0", f"file {path}")
    assert found["buffer.max_bytes"] == ("6", "environment")
    assert found["buffer.policy"] == ("file", f"file {path}")
    assert found["url"] == ("", "default")


def test_nothing_given_is_the_defaults() -> None:
    assert {origin for _, origin in origins().values()} == {"default"}


def test_the_file_may_be_named_in_the_environment(tmp_path: Path) -> None:
    path = toml(tmp_path, "[pump]\nname = 'file'\n")
    assert Pump.load(environ={CONFIG_FILE_VARIABLE: str(path)}).name == "file"
    assert Pump.load(environ={CONFIG_FILE_VARIABLE: ""}).name == "p"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IM_PUMP__NAME", "real")
    assert Pump.load().name == "real"


def test_lists_and_tables_are_json_in_the_environment() -> None:
    settings = Pump.load(environ={"IM_PUMP__SENSORS": '["a", "b"]', "IM_PUMP__LIMITS": '{"a": 1.5}'})
    assert settings.sensors == ["a", "b"]
    assert settings.limits == {"a": 1.5}


def test_text_that_only_looks_like_json_stays_text() -> None:
    assert Pump.load(environ={"IM_PUMP__NAME": "[not json"}).name == "[not json"
    assert Pump.load(environ={"IM_PUMP__NAME": "12"}).name == "12"


def test_a_table_may_be_given_as_a_whole_and_in_part() -> None:
    environ = {"IM_PUMP__BUFFER": '{"max_bytes": 7}', "IM_PUMP__BUFFER__POLICY": "newest"}
    settings = Pump.load(environ=environ, flags={"buffer": {"max_bytes": 8}})
    assert settings.buffer == Buffer(max_bytes=8, policy="newest")


def test_a_keys_part_gives_the_whole_its_origin() -> None:
    assert origins(environ={"IM_PUMP__LIMITS": '{"flow": 2}'})["limits"] == ("{'flow': 2.0}", "environment")


@pytest.mark.parametrize(
    ("layer", "origin"),
    [
        ({"toml_text": "[pump]\ncolour = 'red'\n"}, "file"),
        ({"environ": {"IM_PUMP__COLOUR": "red"}}, "environment"),
        ({"flags": {"colour": "red"}}, "flag"),
    ],
)
def test_an_unknown_key_is_an_error_in_each_layer(layer: dict[str, Any], origin: str, tmp_path: Path) -> None:
    text = layer.pop("toml_text", None)
    if text is not None:
        layer["toml"] = toml(tmp_path, text)
    with pytest.raises(Misconfigured, match=rf"pump\.colour \(from {origin}") as caught:
        load(Pump, **{"environ": {}, **layer})
    assert "buffer, limits, name" in caught.value.hint


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"IM_PUMP__BUFFER__COLOUR": "red"}, r"pump\.buffer\.colour \(from environment\): Extra inputs"),
        (
            {"IM_PUMP__BUFFER__MAX_BYTES": "0"},
            r"pump\.buffer\.max_bytes \(from environment\): .*greater than 0",
        ),
        ({"IM_PUMP__SPEED": "fast"}, r"pump\.speed \(from environment\): .*valid number"),
        ({"IM_PUMP__SENSORS": "[1]"}, r"pump\.sensors\.0 \(from environment\): .*valid string"),
        ({"IM_PUMP__LIMITS": '{"a": "x"}'}, r"pump\.limits\.a \(from environment\)"),
        ({"IM_PUMP__BUFFER": "much"}, r"pump\.buffer \(from environment\)"),
        ({"IM_PUMP__SPEED": "101", "IM_PUMP__NAME": ""}, r"settings of pump: .*needs a name"),
    ],
)
def test_a_wrong_value_is_named_with_its_origin(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(Misconfigured, match=sentence):
        Pump.load(environ=environ)


def test_a_later_layers_table_replaces_an_earlier_plain_value(tmp_path: Path) -> None:
    path = toml(tmp_path, "[pump]\nbuffer = 5\n")
    assert Pump.load(toml=path, environ={"IM_PUMP__BUFFER__MAX_BYTES": "7"}).buffer.max_bytes == 7


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("[pump\n", "is not TOML"), ("pump = 5\n", "'pump' is not a table"), (None, "can't read")],
)
def test_a_file_that_can_not_be_used_is_named(text: str | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "absent.toml" if text is None else toml(tmp_path, text)
    with pytest.raises(Misconfigured, match=sentence) as caught:
        Pump.load(toml=path, environ={})
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plant.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match="is not TOML"):
        Pump.load(toml=path, environ={})


def test_secrets_and_passwords_in_urls_are_hidden() -> None:
    environ = {"IM_PUMP__TOKEN": "s3cret", "IM_PUMP__URL": "nats://me:pa55word@host:4222/x"}
    found = origins(environ=environ)
    assert found["token"] == ("********", "environment")
    assert found["url"] == ("nats://me:********@host:4222/x", "environment")
    assert Pump.load(environ=environ).url.startswith("nats://me:pa55word@")
    assert origins()["token"] == ("", "default")


def test_an_errors_text_does_not_show_the_value() -> None:
    with pytest.raises(Misconfigured) as caught:
        Pump.load(environ={"IM_PUMP__TOKEN": '["s3cret"]'})
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in str(caught.value.__cause__)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Pump.load(environ={}).name = "other"  # type: ignore[misc]


def test_what_else_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATASETS_VARIABLE, "recordings")
    assert datasets_dir() == Path("recordings")
    monkeypatch.setenv("NO_COLOR", "1")
    assert no_color()
    monkeypatch.delenv("NO_COLOR")
    assert not no_color()
    child = child_environment(IM_PUMP__NAME="child")
    assert child["IM_PUMP__NAME"] == "child"
    assert child[DATASETS_VARIABLE] == "recordings"
