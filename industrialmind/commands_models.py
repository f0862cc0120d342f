"""Commands on models: `train`, `models list|show|promote`."""

import asyncio
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from industrialmind.options import DATA, ConfigOption, DataOption, JsonOption

models_app = typer.Typer(help="Registered models.", no_args_is_help=True)

FILE_WIDTH = 160
"""Columns of a table that goes to no terminal."""

MachineArgument = Annotated[str, typer.Argument(help="A machine's id.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(train)
    app.add_typer(models_app, name="models")


def train(
    data: DataOption = DATA,
    machine: Annotated[
        list[str] | None, typer.Option(help="A machine's id; may be given again. All without it.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A method to fit; may be given again. Those of a usual fit without it."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of the fit, as window=64; may be given again."),
    ] = None,
    search: Annotated[
        int,
        typer.Option(
            help="Try so many other settings, and fit the best as one more candidate.", show_default=False
        ),
    ] = 0,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only machines that no model is promoted for.")
    ] = False,
    reconcile: Annotated[
        bool,
        typer.Option("--reconcile", help="Train nothing: bring MLflow and the edges to what the log says."),
    ] = False,
    due: Annotated[
        bool,
        typer.Option(
            "--due", help="Only where drift, labels or age ask for it; says why a machine looks different."
        ),
    ] = False,
    deliver: Annotated[
        bool, typer.Option("--deliver", help="An engineer's word: deliver it with no contest.")
    ] = False,
    rebaseline: Annotated[
        bool,
        typer.Option("--rebaseline", help="A person's word: a new baseline, of the rows since maintenance."),
    ] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder that epochs and figures go to, as TensorBoard's event files.")
    ] = None,
    wandb: Annotated[
        Path | None,
        typer.Option(help="Folder that they go to as offline runs of Weights & Biases."),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Fit models on what the store has, register them, and deliver what is first or better than the champion."""
    from cloud.training.settings import RetrainingSettings
    from industrialmind.sections import given_sections
    from industrialmind.train import run_job, run_job_on
    from industrialmind.train_settings import TrainSettings
    from industrialmind.trainer_job import Job
    from shared.log import configure

    on_servers = TrainSettings.load(toml=config) if "train" in given_sections(config) else None
    policy = RetrainingSettings.load(toml=config).policy()
    configure("trainer")
    job = Job(
        tuple(machine or ()),
        missing=missing,
        reconcile=reconcile,
        due=due,
        deliver=deliver,
        rebaseline=rebaseline,
        models=tuple(model or ()),
        settings=tuple(set_ or ()),
        search=search,
        tensorboard=tensorboard,
        wandb=wandb,
    )
    with _told_as_json() if json else _told_in_words() as tell:
        asyncio.run(
            run_job(data, job, tell, policy)
            if on_servers is None
            else run_job_on(on_servers, job, tell, policy)
        )


@models_app.command("list")
def models_list(
    machine: Annotated[str | None, typer.Option(help="Only this machine.")] = None,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Every version: how it did, which is champion and challenger, where it is wanted; then models of remaining life."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from shared.settings import no_color

    models = _get(data, "/v1/models", **({"machine": machine} if machine else {}))["models"]
    if json:
        _print_json(models)
        return
    names = (
        "machine",
        "v",
        "method",
        "alias",
        "found",
        "false",
        "provisional",
        "wanted on",
        "hash",
        "registered",
    )
    table = Table(*names, box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for model in (each for each in models if each["purpose"] == "anomaly"):
        metrics = model["metrics"]
        table.add_row(
            model["machine"],
            str(model["version"]),
            model["method"],
            ", ".join(model["aliases"]),
            f"{metrics['panel_found']:.0%}" if "panel_found" in metrics else "",
            f"{metrics['panel_false']:g}" if "panel_false" in metrics else "",
            "yes" if model["provisional"] else "no",
            ", ".join(model["promoted_to"]),
            model["version_hash"][:12],
            model["registered_at"][:16],
        )
    console = Console(no_color=no_color(), markup=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    console.print(table)
    lives = [each for each in models if each["purpose"] == "life"]
    if lives:
        from industrialmind.life_words import listed

        console.print(listed(lives))


@models_app.command("show")
def models_show(
    machine: MachineArgument,
    version: Annotated[int | None, typer.Argument(help="Its version; the champion's without it.")] = None,
    card: Annotated[bool, typer.Option("--card", help="Its model card, as Markdown.")] = False,
    life: Annotated[bool, typer.Option("--life", help="Of its models of remaining life.")] = False,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """One version: what it was made of, how it did, where it runs."""
    from rich.console import Console

    from industrialmind import life_words, model_words
    from shared.settings import no_color

    purpose = "life" if life else "anomaly"
    models = _get(data, "/v1/models", machine=machine, purpose=purpose)["models"]
    summary = _version(models, machine, version)
    model = _get(data, f"/v1/models/{summary['version_hash']}", machine=machine)
    if json:
        _print_json(model)
        return
    if card:
        from industrialmind.model_card import model_card

        sys.stdout.write(life_words.life_card(model) if life else model_card(model))
        return
    described = life_words.described(model) if life else model_words.described(model)
    Console(no_color=no_color(), markup=False, highlight=False).print(described)


@models_app.command("promote")
def models_promote(
    machine: MachineArgument,
    version: Annotated[int, typer.Argument(help="The version that its edge is to run.", min=1)],
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Let a machine's edge run another version; it is swapped in while the plant runs."""
    from industrialmind.client import Client
    from industrialmind.plant import DataDir

    with Client.of(DataDir(data)) as client:
        body = {"machine": machine, "version": version}
        answer = client.post("/v1/models/promotions", body, idempotency_key=str(uuid.uuid4()))
    if json:
        _print_json(answer)
        return
    where = ", ".join(answer["promoted_to"])
    said = "is promoted" if answer["changed"] else "was promoted already"
    sys.stdout.write(f"{answer['name']} v{version} {answer['version_hash'][:12]} {said}: wanted on {where}\n")


def _get(data: Any, path: str, **query: str) -> Any:  # noqa: ANN401 - JSON
    from industrialmind.client import Client
    from industrialmind.plant import DataDir

    with Client.of(DataDir(data)) as client:
        return client.get(path, **query)


def _version(models: list[dict[str, Any]], machine: str, version: int | None) -> dict[str, Any]:
    """The one asked for. Raises NotFound, naming those there are."""
    from shared.errors import NotFound

    if not models:
        raise NotFound(f"no models of a machine {machine!r}: industrialmind models list shows what there is")
    for model in models:
        if model["version"] == version or (version is None and "champion" in model["aliases"]):
            return model
    if version is None:
        return models[-1]
    raise NotFound(
        f"{machine} has no version {version}: there are {', '.join(str(m['version']) for m in models)}"
    )


def _print_json(value: Any) -> None:  # noqa: ANN401 - JSON
    sys.stdout.write(orjson.dumps(value).decode() + "\n")


@contextmanager
def _told_as_json() -> "Iterator[Any]":
    """Every event as a JSON line on stdout, and into the log."""
    import structlog

    log = structlog.get_logger()

    def tell(event: Mapping[str, Any]) -> None:
        sys.stdout.write(orjson.dumps(event).decode() + "\n")
        sys.stdout.flush()
        log.info("trainer", **{("kind" if key == "event" else key): value for key, value in event.items()})

    yield tell


@contextmanager
def _told_in_words() -> "Iterator[Any]":
    """What was delivered on stdout; on stderr each fit's figures and, on a terminal, what goes on now."""
    from rich.console import Console

    from industrialmind.train_words import outcome, progress
    from shared.settings import no_color

    console = Console(stderr=True, no_color=no_color(), markup=False, highlight=False)
    with console.status("connecting") as status:

        def tell(event: Mapping[str, Any]) -> None:
            now, kept = progress(event), outcome(event)
            if now:
                status.update(now)
            if not console.is_terminal and event["event"] in {"waiting", "fitting", "epoch"}:
                console.print(now)
            if kept and event["event"] == "delivered":
                sys.stdout.write(kept + "\n")
                sys.stdout.flush()
            elif kept:
                console.print(kept, soft_wrap=True)

        yield tell
