"""Commands about the plant as a whole: `up`, `status`, `doctor`, `config`."""

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from industrialmind.options import DATA, ConfigOption, DataOption, JsonOption
from industrialmind.sections import given_sections
from shared.names import API_PORT, INFERENCE_PORT, MLFLOW_PORT, MQTT_PORT, NATS_PORT, UI_PORT

config_app = typer.Typer(help="Settings: where each value comes from.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(up)
    app.command()(status)
    app.command()(doctor)
    app.command("login-link")(login)
    app.add_typer(config_app, name="config")


def up(
    data: DataOption = DATA,
    replay: Annotated[
        Path | None,
        typer.Option(help="Replay this CSV recording as a live machine, instead of the demonstration."),
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="YAML that maps the recording's columns.", exists=True, dir_okay=False)
    ] = None,
    interval: Annotated[
        float | None, typer.Option(help="Seconds from row to row, for a recording whose rows only count.")
    ] = None,
    keep_column: Annotated[
        list[str] | None,
        typer.Option(help="Replay this column although it looks like a label; again for more."),
    ] = None,
    fit_rows: Annotated[
        int, typer.Option(help="Rows of the recording that the model is fitted on.", min=50)
    ] = 400,
    speed: Annotated[float, typer.Option(help="Replay speed; 0: as fast as acknowledged.", min=0)] = 20.0,
    backfill_hours: Annotated[float, typer.Option(help="Simulated history of a first start.", min=0)] = 6.0,
    waves: Annotated[
        float, typer.Option(help="Seconds between two waveform blocks of a machine; 0: none.", min=0)
    ] = 0.0,
    no_demo_fault: Annotated[bool, typer.Option("--no-demo-fault", help="Inject no fault.")] = False,
    fault_after: Annotated[
        float, typer.Option(help="Seconds from the last model's activation to the fault.", min=0)
    ] = 60.0,
    nats_port: Annotated[int, typer.Option(help="NATS port.")] = NATS_PORT,
    mqtt_port: Annotated[int, typer.Option(help="MQTT port.")] = MQTT_PORT,
    api_port: Annotated[int, typer.Option(help="Data API port.")] = API_PORT,
    ui_port: Annotated[int, typer.Option(help="Control room port.")] = UI_PORT,
    inference_port: Annotated[int, typer.Option(help="Inference API port.")] = INFERENCE_PORT,
    log_url: Annotated[
        str, typer.Option(help="A new plant's event log, kafka://HOST:PORT, instead of the embedded one.")
    ] = "",
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Run MLflow's server too.")] = False,
    mlflow_port: Annotated[int, typer.Option(help="MLflow port.")] = MLFLOW_PORT,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON line when ready.")] = False,
) -> None:
    """Run the whole plant on this machine until Ctrl-C; a second start resumes from disk."""
    from industrialmind.children import Ports, ReplayOptions
    from industrialmind.up import UpOptions, run_up
    from shared.log import configure
    from shared.service import run_main

    if replay is None and (mapping or interval is not None or keep_column):
        raise typer.BadParameter("--mapping, --interval and --keep-column say how to read the --replay file")
    configure("up")
    given_sections(None)
    options = UpOptions(
        data=data,
        ports=Ports(nats_port, mqtt_port, api_port, ui_port, inference_port, mlflow_port if mlflow else None),
        replay=ReplayOptions(replay, mapping, fit_rows, speed, interval, tuple(keep_column or ()))
        if replay
        else None,
        backfill_hours=backfill_hours,
        fault_after=None if no_demo_fault else fault_after,
        json=json,
        log_url=log_url,
        waves_s=waves,
    )
    raise typer.Exit(run_main(lambda stop: run_up(options, stop)))


def status(
    data: DataOption = DATA,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every second until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Machines, last values, state, score, anomalies with their leading sensors, data age."""
    from industrialmind.status import show, watch_status

    if watch:
        watch_status(data)
        return
    show(data, as_json=json)


def doctor(data: DataOption = DATA, json: JsonOption = False) -> None:
    """Versions, ports, disk, clock, backends; each failure with its fix. Exit 1 if something fails."""
    from industrialmind.doctor import examine, render

    checks = examine(data)
    if json:
        sys.stdout.write(orjson.dumps([check.as_dict() for check in checks]).decode() + "\n")
    else:
        render(checks)
    raise typer.Exit(1 if any(not check.ok for check in checks) else 0)


def login(data: DataOption = DATA, json: JsonOption = False) -> None:
    """Print a link into the control room: it works once, within ten minutes."""
    from industrialmind.login import link_into
    from industrialmind.plant import DataDir

    link = link_into(DataDir(data))
    sys.stdout.write((orjson.dumps({"login_link": link}).decode() if json else link) + "\n")


@config_app.command("show")
def config_show(
    section: Annotated[str | None, typer.Argument(help="One section; all without it.")] = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value came from.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Print settings with secrets hidden."""
    from industrialmind.config import show_config

    show_config(section, config, with_origin=origin, as_json=json)


@config_app.command("validate")
def config_validate(config: ConfigOption = None) -> None:
    """Check a TOML file and the environment: unknown sections and keys, wrong values. Exit 2 if one is found."""
    from industrialmind.config import validate_config

    validate_config(config)
