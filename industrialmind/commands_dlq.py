"""Commands on dead letters: `dlq list|show|replay|drop`."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from industrialmind.options import DATA, DataOption, JsonOption

dlq_app = typer.Typer(help="Dead letters: inputs that were refused.", no_args_is_help=True)

ReasonOption = Annotated[str, typer.Option(help="Only where the reason has this text, in any case.")]
TopicOption = Annotated[str, typer.Option(help="Only of this topic; + and # as in MQTT.")]
SourceOption = Annotated[str, typer.Option(help="Only what this edge, gateway or service refused.")]
SinceOption = Annotated[str, typer.Option(help="Only since: RFC 3339, or so long ago (-15m, -2h, -7d).")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it to all that the filter matches.")]
MostOption = Annotated[int, typer.Option(help="At most so many, by a filter.", min=1)]
IdsArgument = Annotated[list[str] | None, typer.Argument(help="Ids of letters, as dlq list shows them.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(dlq_app, name="dlq")


@dlq_app.command("list")
def dlq_list(
    reason: ReasonOption = "",
    topic: TopicOption = "",
    source: SourceOption = "",
    since: SinceOption = "",
    before: Annotated[str, typer.Option(help="Only older ones than this letter.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    all: Annotated[bool, typer.Option("--all", help="Those that somebody saw to, too.")] = False,  # noqa: A002
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """What was refused and nobody saw to yet, newest first."""
    from industrialmind.dlq import Choice, list_letters
    from industrialmind.dlq_words import as_json, print_table

    found = asyncio.run(list_letters(data, Choice(reason, topic, source, since, all), before, limit))
    if json:
        sys.stdout.write(as_json(found) + "\n")
    else:
        print_table(found["letters"], found["next"])


@dlq_app.command("show")
def dlq_show(
    letter: Annotated[str, typer.Argument(help="The letter's id.")],
    raw: Annotated[bool, typer.Option("--raw", help="Write the payload alone, byte for byte.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the payload into this file, byte for byte.", dir_okay=False)
    ] = None,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """One letter: why, whence, when, what became of it, and what was in it, escaped."""
    from industrialmind.dlq import show_letter, write_payload
    from industrialmind.dlq_words import as_json, described

    found = asyncio.run(show_letter(data, letter))
    if out is not None:
        write_payload(found, out)
    if raw and out is None:
        write_payload(found, None)
    else:
        sys.stdout.write(as_json(found) + "\n" if json else described(found))


@dlq_app.command("replay")
def dlq_replay(
    letters: IdsArgument = None,
    reason: ReasonOption = "",
    topic: TopicOption = "",
    source: SourceOption = "",
    since: SinceOption = "",
    limit: MostOption = 1000,
    yes: YesOption = False,
    again: Annotated[bool, typer.Option("--again", help="Also what somebody saw to already.")] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Don't wait until a second refusal would show as a new letter.")
    ] = False,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Send inputs once more where they came from. What is refused again is a new letter."""
    from industrialmind.client import Client
    from industrialmind.dlq import Choice, chosen, each, replayer
    from industrialmind.plant import DataDir

    with Client.of(DataDir(data)) as client:
        ids = chosen(client, letters or [], Choice(reason, topic, source, since), limit, yes=yes)
        result = each(ids, replayer(client, again=again, now=now), _teller(json=json))
    if result["done"] and not json:
        sys.stderr.write("what is refused again is a new letter: industrialmind dlq list --since -5m\n")
    _finish(result, json=json)


@dlq_app.command("drop")
def dlq_drop(
    letters: IdsArgument = None,
    why: Annotated[str, typer.Option(help="Why these letters need nothing more.")] = "",
    reason: ReasonOption = "",
    topic: TopicOption = "",
    source: SourceOption = "",
    since: SinceOption = "",
    limit: MostOption = 1000,
    yes: YesOption = False,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Mark letters as seen to. Nothing is deleted."""
    from industrialmind.client import Client
    from industrialmind.dlq import Choice, chosen, dropper, each
    from industrialmind.plant import DataDir
    from shared.errors import Misconfigured

    if not why.strip():
        raise Misconfigured("why do these letters need nothing more?", hint="say it with --why TEXT")
    with Client.of(DataDir(data)) as client:
        ids = chosen(client, letters or [], Choice(reason, topic, source, since), limit, yes=yes)
        result = each(ids, dropper(client, why), _teller(json=json))
    _finish(result, json=json)


def _teller(*, json: bool) -> Any:  # noqa: ANN401 - a function of an answer
    """Says what was done on stdout and what was not on stderr, one letter a line."""
    from industrialmind.dlq_words import escaped

    def tell(answer: Mapping[str, Any]) -> None:
        if "error" in answer:
            sys.stderr.write(f"{answer['id']}: {escaped(answer['error'])}\n")
        elif not json:
            done = answer["handled"]
            said = "sent again on" if done["outcome"] == "replayed" else "dropped because:"
            sys.stdout.write(f"{answer['id']} {said} {escaped(done['note'])}\n")
            sys.stdout.flush()

    return tell


def _finish(result: Mapping[str, Any], *, json: bool) -> None:
    """Print the JSON; exit 1 if something was not done."""
    from industrialmind.dlq_words import as_json

    if json:
        sys.stdout.write(as_json(result) + "\n")
    if result["failed"]:
        raise typer.Exit(1)
