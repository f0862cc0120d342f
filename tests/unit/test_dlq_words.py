"""What a stranger sent is shown by its codes: nothing in it reaches the terminal, rich, or a reader's eye turned round."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from industrialmind.dlq_words import as_json, described, escaped, moment, payload_lines, print_table

EVIL = "\x1b]0;owned\x07\x1b[31m[bold]red[/bold] :smile: \u202egnp\u2066 \u200b\x9b1m\r\n\\ é ∆"


def shown(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - fields
    payload: bytes = more.pop("payload", b"{}")
    return {
        "id": "0-7",
        "reason": "no",
        "topic": "plant/a/b/c",
        "source": "gateway-1",
        "received_us": 0,
        "logged_us": 1,
        "size": len(payload),
        "whole": True,
        "handled": None,
        "key": "b",
        "origin": {},
        "position": {},
        "sha256": "",
        "payload": base64.b64encode(payload).decode(),
        "replay": {"via": "mqtt", "from_us": 0, "refusal": ""},
        **more,
    }


@given(st.text(st.characters(codec=None)))
def test_escaped_text_is_printable_and_says_what_it_was(text: str) -> None:
    made = escaped(text)
    assert made.isprintable()
    plain = made.encode("latin-1", "backslashreplace").decode("unicode_escape")
    assert plain == text


def test_nothing_is_interpreted_in_a_description() -> None:
    out = described(
        shown(reason=EVIL, topic=EVIL, source=EVIL, key=EVIL, payload=EVIL.encode(), origin={"im-edge": EVIL})
    )
    assert all(character.isprintable() or character == "\n" for character in out)
    assert r"\x1b]0;owned\x07\x1b[31m[bold]red[/bold] :smile: \u202egnp\u2066 \u200b\x9b1m" in out
    assert "é ∆" in out


def test_nothing_is_interpreted_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    handled = {"outcome": "dropped", "by": "cli", "at_us": 5, "note": EVIL}
    print_table([shown(reason=EVIL, topic=EVIL, source="[red]"), shown(handled=handled)], "0-7")
    out = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in out)
    assert r"\x1b[31m[bold]red[/bold] :smile: \u202egnp" in out
    assert "[red]" in out
    assert "--before 0-7" in out
    print_table([], None)
    assert capsys.readouterr().out == "no dead letters\n"


def test_json_is_ascii() -> None:
    made = as_json({"reason": EVIL + "\x7f"})
    assert made.isascii()
    assert made.isprintable()
    assert json.loads(made)["reason"] == EVIL + "\x7f"


def test_a_payload_is_text_or_a_hex_dump_and_bounded() -> None:
    assert payload_lines(b"") == ["(empty)"]
    assert payload_lines(b"a\nb") == [r"a\n", "b"]
    assert payload_lines(b"\xff\x00a|") == [f"00000000  {'ff 00 61 7c':<47}  |..a||"]
    assert [len(line) for line in payload_lines(b"x" * 250)] == [100, 100, 50]
    text = payload_lines(b"x" * 5000)
    assert text[-1] == "... and 904 more characters: --out FILE writes them all"
    dump = payload_lines(b"\xff" * 5000)
    assert (len(dump), dump[-1][:22]) == (33, "... and 4488 more byte")


def test_a_description_says_what_became_of_it_and_what_may_be_done() -> None:
    out = described(
        shown(
            whole=False,
            size=70_000,
            sha256="ab" * 32,
            position={"0": 4},
            handled={"outcome": "replayed", "by": "cli", "at_us": 5, "note": "plant/a/b/c"},
            replay={"via": None, "from_us": 0, "refusal": "too long"},
        )
    )
    assert "replayed by cli at 1970-01-01 00:00:00.000005Z, on plant/a/b/c" in out
    assert "can't be sent again: too long" in out
    assert "70000 bytes, of which the first 2 were kept" in out
    assert "position {'0': 4}" in out
    young = described(shown(replay={"via": "mqtt", "from_us": 60_000_000, "refusal": ""}))
    assert "over MQTT, on its topic; from 1970-01-01 00:01:00Z on" in young
    assert "into its log topic" in described(shown(replay={"via": "log", "from_us": 0, "refusal": ""}))


def test_a_time_that_is_none_is_a_number() -> None:
    assert moment(10**30) == "1e+24 s after 1970"
