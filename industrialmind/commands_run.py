"""Commands that run one service in this process: `edge run`, `gateway run`, `cloud run`, `sim …`."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from industrialmind.options import ConfigOption
from industrialmind.sections import given_sections

edge_app = typer.Typer(help="The agent on the plant device.", no_args_is_help=True)
gateway_app = typer.Typer(help="MQTT in, event log out.", no_args_is_help=True)
cloud_app = typer.Typer(help="Cloud services.", no_args_is_help=True)
sim_app = typer.Typer(help="Simulated machines and recordings.", no_args_is_help=True)

SERVICES = ("ingest", "api", "inference", "ui", "mlflow")


def add_to(app: typer.Typer) -> None:
    """Register the groups."""
    app.add_typer(edge_app, name="edge")
    app.add_typer(gateway_app, name="gateway")
    app.add_typer(cloud_app, name="cloud")
    app.add_typer(sim_app, name="sim")


@edge_app.command("run")
def edge_run(
    mapping: Annotated[
        Path | None,
        typer.Option(help="YAML that makes readings of a plant's own topics.", exists=True, dir_okay=False),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Run an edge agent until SIGTERM. SIGHUP: read the settings again."""
    from edge.agent import run
    from edge.reload import Again
    from edge.settings import EdgeSettings
    from shared.log import configure
    from shared.service import run_main

    given_sections(config)
    settings = EdgeSettings.load(flags={"mapping": mapping}, toml=config)
    configure(settings.edge)

    async def main(stop: asyncio.Event) -> None:
        again = Again(
            lambda values: EdgeSettings.load(flags={"mapping": mapping, **values}, toml=config),
            asyncio.Event(),
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, again.hangup.set)
        await run(settings, stop, again)

    raise typer.Exit(run_main(main))


@gateway_app.command("run")
def gateway_run(config: ConfigOption = None) -> None:
    """Run a gateway until SIGTERM."""
    from gateway.app import run
    from gateway.settings import GatewaySettings
    from gateway.uvloop import loop_factory
    from shared.log import configure
    from shared.service import run_main

    given_sections(config)
    settings = GatewaySettings.load(toml=config)
    configure("gateway")
    raise typer.Exit(run_main(lambda stop: run(settings, stop), loop_factory=loop_factory()))


@cloud_app.command("run")
def cloud_run(
    service: Annotated[str, typer.Argument(help=f"One of {', '.join(SERVICES)}.")],
    config: ConfigOption = None,
) -> None:
    """Run a cloud service until SIGTERM. `api`: data API and loss ledger; `inference`: scores; `ui`: the control room."""
    from shared.log import configure
    from shared.service import run_main

    configure(service)
    given_sections(config)
    match service:
        case "ingest":
            from cloud.ingest.app import run as run_ingest
            from cloud.ingest.settings import IngestSettings

            ingest = IngestSettings.load(toml=config)
            raise typer.Exit(run_main(lambda stop: run_ingest(ingest, stop)))
        case "api":
            from gateway.uvloop import loop_factory
            from industrialmind.cloud import CloudSettings, run_cloud

            cloud = CloudSettings.load_all(config)
            raise typer.Exit(run_main(lambda stop: run_cloud(cloud, stop), loop_factory=loop_factory()))
        case "inference":
            from cloud.inference.settings import InferenceSettings
            from industrialmind.inference import run_inference

            inference = InferenceSettings.load(toml=config)
            raise typer.Exit(run_main(lambda stop: run_inference(inference, stop)))
        case "ui":
            from cloud.ui.app import run as run_ui
            from cloud.ui.settings import UiSettings

            ui = UiSettings.load(toml=config)
            raise typer.Exit(run_main(lambda stop: run_ui(ui, stop)))
        case "mlflow":
            from cloud.training.mlflow.server import run as run_mlflow
            from cloud.training.mlflow.settings import MlflowSettings

            mlflow = MlflowSettings.load(toml=config)
            raise typer.Exit(run_main(lambda stop: run_mlflow(mlflow, stop)))
    raise typer.BadParameter(f"{service!r} is not one of {', '.join(SERVICES)}")


@sim_app.command("run")
def sim_run(config: ConfigOption = None) -> None:
    """Run simulated machines over MQTT until SIGTERM. Faults come as JSON lines on standard input."""
    from firmware_sim.app import run
    from firmware_sim.control import stdin_lines
    from firmware_sim.settings import SimSettings
    from shared.log import configure
    from shared.service import run_main

    given_sections(config)
    settings = SimSettings.load(toml=config)
    configure("sim")
    raise typer.Exit(run_main(lambda stop: run(settings, stop, stdin_lines())))


@sim_app.command("replay")
def sim_replay(
    file: Annotated[Path | None, typer.Argument(help="CSV recording; in TOML: [replay] file.")] = None,
    machine: Annotated[str | None, typer.Option(help="Machine id after 'replay-'.")] = None,
    speed: Annotated[float | None, typer.Option(help="Times its own pace; 0: as fast as confirmed.")] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="YAML that maps its columns.", exists=True, dir_okay=False)
    ] = None,
    interval: Annotated[
        float | None, typer.Option(help="Seconds from row to row, for a first column that only counts.")
    ] = None,
    keep_column: Annotated[
        list[str] | None,
        typer.Option(help="Send this column although it looks like a label; again for more."),
    ] = None,
    fit_rows: Annotated[
        int | None,
        typer.Option(help='Rows sent at once; the rest waits for {"continue": true} on standard input.'),
    ] = None,
    site: Annotated[str | None, typer.Option(help="Site in the topics.")] = None,
    mqtt_url: Annotated[str | None, typer.Option(help="The devices' broker, mqtt://HOST:PORT.")] = None,
    username: Annotated[
        str | None, typer.Option(help="User there; the password: IM_REPLAY__MQTT_PASSWORD or TOML.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Replay a CSV recording as a live machine over MQTT, to its end."""
    from firmware_sim.control import stdin_lines
    from firmware_sim.replay import run_replay
    from firmware_sim.settings import ReplaySettings
    from shared.log import configure
    from shared.service import run_main

    flags = {
        "file": file,
        "machine": machine,
        "speed": speed,
        "mapping": mapping,
        "interval_s": interval,
        "keep_columns": keep_column or None,
        "fit_rows": fit_rows,
        "site": site,
        "mqtt_url": mqtt_url,
        "mqtt_username": username,
    }
    given_sections(config)
    settings = ReplaySettings.load(flags=flags, toml=config)
    configure("replay")
    raise typer.Exit(run_main(lambda stop: run_replay(settings, stop, stdin_lines())))


@sim_app.command("dataset")
def sim_dataset(
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    hours: Annotated[float, typer.Option(help="Length of each recording.", min=0.1)] = 24.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.", min=0)] = 1,
    machine: Annotated[list[str] | None, typer.Option(help="A machine type; may be given again.")] = None,
    fault: Annotated[list[str] | None, typer.Option(help="A fault to draw from; may be given again.")] = None,
    interval: Annotated[float, typer.Option(help="Seconds between readings.", min=0.1)] = 1.0,
) -> None:
    """Write labelled recordings: a healthy FIT part, a TEST part with faults and look-alikes, and the truth."""
    from firmware_sim.dataset import dataset

    for path in dataset(
        out, hours=hours, seed=seed, machines=machine or (), interval_s=interval, faults=fault or ()
    ):
        sys.stdout.write(f"{path}\n")
