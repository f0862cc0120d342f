import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from shared import log
from shared.errors import Misconfigured


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_off_a_terminal_a_log_line_is_json_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("edge")
    structlog.get_logger().info("outbox opened", rows=3)
    structlog.get_logger().debug("not shown")
    out, err = capsys.readouterr()
    assert out == ""
    line = json.loads(err)
    assert (line["service"], line["event"], line["rows"], line["level"]) == (
        "edge",
        "outbox opened",
        3,
        "info",
    )
    assert line["timestamp"].endswith("Z")


def test_an_exception_is_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("edge", json=True)
    try:
        int("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "ValueError: invalid literal" in json.loads(capsys.readouterr().err)["exception"]


def test_no_color_is_honoured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    log.configure("edge", json=False)
    structlog.get_logger().info("hello")
    plain = capsys.readouterr().err
    assert "hello" in plain
    assert "\x1b[" not in plain


def test_the_level_is_a_threshold_and_must_exist(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("edge", level="error", json=True)
    structlog.get_logger().warning("quiet")
    assert capsys.readouterr().err == ""
    with pytest.raises(Misconfigured, match="'loud' does not exist"):
        log.configure("edge", level="loud")
