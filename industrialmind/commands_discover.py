"""`industrialmind discover`: a mapping for a plant that has its own topics."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from industrialmind.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from edge.discover.dry_run import TopicTried
    from industrialmind.discover import Discovery

_SHOWN_EXAMPLES = 3
_SHOWN_REASONS = 3


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("discover")(discover)


def discover(
    broker: Annotated[str | None, typer.Option(help="The plant's broker, mqtt://HOST:PORT.")] = None,
    username: Annotated[
        str | None, typer.Option(help="User there; the password: IM_DISCOVER__PASSWORD or TOML.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="How long to listen.")] = None,
    topic: Annotated[list[str] | None, typer.Option(help="MQTT filter; may be given again.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the proposal to this file.", dir_okay=False)] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(help="Try this mapping instead of proposing one.", exists=True, dir_okay=False),
    ] = None,
    ask_births: Annotated[
        bool, typer.Option("--ask-births", help="Ask Sparkplug nodes for their births (it publishes NCMD).")
    ] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Listen to a broker, propose a mapping of its topics, and say what each message would become."""
    import asyncio

    import orjson

    from industrialmind.discover import discover as run
    from industrialmind.discover_settings import DiscoverSettings
    from industrialmind.sections import given_sections
    from shared.log import configure

    given_sections(config)
    configure("discover")
    flags = {
        "broker": broker,
        "username": username,
        "seconds": seconds,
        "topics": tuple(topic) if topic else None,
        "mapping": mapping,
        "ask_births": ask_births or None,
    }
    settings = DiscoverSettings.load(flags=flags, toml=config)
    if not json:
        sys.stderr.write(f"listening to {settings.broker} for {settings.seconds:g} s\n")
    found = asyncio.run(run(settings))
    if json:
        sys.stdout.write(orjson.dumps(found.as_dict()).decode() + "\n")
    else:
        _say(found, sys.stdout if mapping is not None else sys.stderr)
    if out is not None and found.text:
        out.write_text(found.text, encoding="utf-8")
    elif found.text and not json:
        sys.stdout.write(found.text)
    trouble = not found.readings or (mapping is not None and found.refused)
    raise typer.Exit(1 if trouble else 0)


def _say(found: "Discovery", where: TextIO) -> None:
    lines = [line for topic in found.tried for line in _topic_lines(topic)]
    if not found.tried and found.proposal is not None and not found.proposal.unread:
        lines.append("nothing was heard: listen longer, or check the user's rights")
    if found.proposal is not None:
        lines += [
            f"not mapped: {_safe(topic)}: {_safe(why)}"
            for topic, why in sorted(found.proposal.unread.items())
        ]
        if found.proposal.unknown:
            lines.append(f"{found.proposal.unknown} units are unknown: write them for '?' before it runs")
        if found.proposal.guessed:
            lines.append(f"{found.proposal.guessed} units are guesses by name: check them")
    if found.seen.plain:
        lines.append(f"{len(found.seen.plain)} topics are plain already and need no mapping")
    if found.seen.not_kept:
        lines.append(f"{found.seen.not_kept} messages were beyond what is kept, and are not looked at")
    lines.append(f"{found.readings} readings, {found.refused} refusals")
    where.write("\n".join(lines) + "\n")


def _topic_lines(topic: "TopicTried") -> list[str]:
    lines = [f"{_safe(topic.topic)}: {topic.messages} messages, {topic.readings} readings"]
    for (machine, sensor), (value, unit, time_us) in list(topic.examples.items())[:_SHOWN_EXAMPLES]:
        lines.append(f"    {machine}/{sensor} = {value:g} {unit} at {_instant(time_us)}")
    if len(topic.examples) > _SHOWN_EXAMPLES:
        lines.append(f"    and {len(topic.examples) - _SHOWN_EXAMPLES} sensors more")
    lines += [
        f"    refused {count}: {_safe(reason)}" for reason, count in topic.reasons.most_common(_SHOWN_REASONS)
    ]
    return lines


def _instant(time_us: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="milliseconds")


def _safe(text: str) -> str:
    """A stranger's text can't move a terminal's cursor."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)
