"""Commands on an event log that is a server of its own: `log ensure`, `log topics`."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import orjson
import typer

from industrialmind.options import JsonOption
from shared.errors import Misconfigured

log_app = typer.Typer(help="The event log's topics on Kafka.", no_args_is_help=True)

UrlOption = Annotated[
    str, typer.Option(help="The log: kafka://HOST:PORT[,HOST:PORT][?security=ssl&ca=FILE].")
]
CredentialsOption = Annotated[str, typer.Option(help="USER:PASSWORD, where the brokers ask for them.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(log_app, name="log")


@log_app.command("ensure")
def log_ensure(
    url: UrlOption,
    partitions: Annotated[
        list[str] | None, typer.Option(help="N for the topics by machine, or TOPIC=N; may be given again.")
    ] = None,
    replication: Annotated[int, typer.Option(help="Copies of each record; 3 in production.", min=1)] = 1,
    credentials: CredentialsOption = "",
    json: JsonOption = False,
) -> None:
    """Make the topics that are missing, widen those with too few partitions, set how long each keeps its records."""
    from shared.kafka import ensure_topics

    many, named = _partitions(partitions or ())

    async def ensure() -> None:
        await ensure_topics(
            url, credentials=credentials, partitions=many, named=named, replication=replication
        )

    asyncio.run(ensure())
    log_topics(url, credentials, json)


@log_app.command("topics")
def log_topics(url: UrlOption, credentials: CredentialsOption = "", json: JsonOption = False) -> None:
    """The topics with their partitions, copies, last offsets and retention."""
    from shared.kafka import topic_states

    states = asyncio.run(topic_states(url, credentials=credentials))
    if json:
        sys.stdout.write(orjson.dumps([asdict(state) for state in states]).decode() + "\n")
        return
    sys.stdout.write(f"{'topic':<32}{'partitions':>11}{'copies':>8}{'end':>14}  kept\n")
    for state in states:
        kept = "for ever" if state.retention_days is None else f"{state.retention_days:g} days"
        end = sum(state.end.values())
        sys.stdout.write(f"{state.name:<32}{state.partitions:>11}{state.replication:>8}{end:>14}  {kept}\n")


def _partitions(options: Sequence[str]) -> tuple[int | None, dict[str, int]]:
    """The number for all, if one was given, and those of single topics. Raises Misconfigured."""
    many, named = None, {}
    for option in options:
        topic, _, number = option.rpartition("=")
        if not number.isascii() or not number.isdigit() or int(number) < 1:
            raise Misconfigured(
                f"--partitions {option!r} is no number of partitions", hint="give N or TOPIC=N"
            )
        if topic:
            named[topic] = int(number)
        else:
            many = int(number)
    return many, named
