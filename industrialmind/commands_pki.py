"""Commands on the plant's own certificates: `pki init|issue|renew|revoke|list|rules`."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from industrialmind.options import DATA, ConfigOption, DataOption, JsonOption
from shared.errors import Misconfigured

if TYPE_CHECKING:
    from industrialmind.grants import EdgeScope
    from industrialmind.pki import Issued

pki_app = typer.Typer(help="The plant's own certificates.", no_args_is_help=True)

FOLDER = Path("pki")
FolderOption = Annotated[
    Path, typer.Option("--folder", help="Folder with the authorities.", show_default=True)
]
DaysOption = Annotated[float, typer.Option(help="Days that a certificate holds.", min=0.001, max=825)]
NameArgument = Annotated[str, typer.Argument(help="Whose: an edge's or service's id.")]


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    app.add_typer(pki_app, name="pki")


@pki_app.command("init")
def pki_init(
    folder: FolderOption = FOLDER,
    days: Annotated[float, typer.Option(help="Days that the authorities hold.", min=1)] = 3650.0,
) -> None:
    """Make the authorities, one for edges and devices and one for services. Keep their keys where nobody else comes."""
    from industrialmind.pki import Pki

    Pki.init(folder, datetime.now(UTC), days=days)
    sys.stdout.write(f"{folder / 'ca.crt'}\n")


@pki_app.command("issue")
def pki_issue(
    name: NameArgument,
    folder: FolderOption = FOLDER,
    service: Annotated[
        bool, typer.Option("--service", help="A service or server of the plant, not an edge or device.")
    ] = False,
    host: Annotated[
        list[str] | None, typer.Option(help="A server's name or address; may be given again.")
    ] = None,
    request: Annotated[
        Path | None,
        typer.Option(help="Signing request: the key stays where it was made.", exists=True, dir_okay=False),
    ] = None,
    days: DaysOption = 7.0,
    json: JsonOption = False,
) -> None:
    """Make a certificate with a new key, or for the key of a signing request."""
    from industrialmind.pki import Pki

    if host and not service:
        raise Misconfigured("--host is for servers", hint="add --service")
    pem = request.read_text(encoding="utf-8", errors="replace") if request else ""
    pki = Pki(folder)
    made = pki.issue(
        name, "services" if service else "field", datetime.now(UTC), days=days, hosts=host or (), request=pem
    )
    _show(pki.folder, [made], as_json=json)


@pki_app.command("renew")
def pki_renew(
    name: Annotated[list[str] | None, typer.Argument(help="Whose; those that are due without it.")] = None,
    folder: FolderOption = FOLDER,
    days: DaysOption = 7.0,
    deliver: Annotated[
        bool, typer.Option("--deliver", help="Give the edges theirs over the control plane.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Sign the keys of certificates past two thirds of their life again, and the revocation lists. For a daily timer."""
    import asyncio

    from industrialmind.pki import Pki

    pki = Pki(folder)
    made = pki.renew(datetime.now(UTC), days=days, names=name or None)
    if deliver:
        from industrialmind.pki_delivery import deliver_certificates
        from industrialmind.servers_settings import ServersSettings

        asyncio.run(deliver_certificates(pki, ServersSettings.load(toml=config)))
    _show(folder, made, as_json=json)


@pki_app.command("revoke")
def pki_revoke(name: NameArgument, folder: FolderOption = FOLDER) -> None:
    """Take back every certificate of a name. Then run `pki rules` and let the servers read them."""
    from industrialmind.pki import Pki

    Pki(folder).revoke(name, datetime.now(UTC))
    sys.stdout.write(
        f"{name} is revoked: run pki rules, and let mosquitto and nats-server read it (SIGHUP)\n"
    )


@pki_app.command("list")
def pki_list(folder: FolderOption = FOLDER, json: JsonOption = False) -> None:
    """Whose certificates there are and until when. Exit code 1 if one is due to be renewed."""
    from industrialmind.pki import Pki

    now = datetime.now(UTC)
    issued = list(Pki(folder).book().issued.values())
    _show(folder, issued, as_json=json)
    raise typer.Exit(int(any(one.due(now) and not one.revoked for one in issued)))


@pki_app.command("rules")
def pki_rules(
    folder: FolderOption = FOLDER,
    site: Annotated[str, typer.Option(help="The plant, with --edge.")] = "",
    edge: Annotated[
        list[str] | None,
        typer.Option(
            help="EDGE=MACHINE,MACHINE…; may be given again. Without it, as the running plant says."
        ),
    ] = None,
    mosquitto: Annotated[str, typer.Option(help="The broker's certificate.")] = "mosquitto",
    nats: Annotated[str, typer.Option(help="The certificate of nats-server.")] = "nats",
    log_denied: Annotated[
        bool, typer.Option("--log-denied", help="Let mosquitto log what its rules deny, and every packet.")
    ] = False,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Write mosquitto's and nats-server's configuration and rules from who speaks for which machine."""
    from industrialmind.pki import Pki
    from industrialmind.tls_conf import write_rules

    if bool(edge) != bool(site):
        raise Misconfigured(
            "--site and --edge belong together", hint="give both, or neither with a running plant"
        )
    scopes, lone = (_named(site, edge), ()) if edge else _assigned(data)
    written = write_rules(
        Pki(folder), scopes, mosquitto=mosquitto, nats=nats, machines=lone, log_denied=log_denied
    )
    files = [str(path) for path in written]
    sys.stdout.write((orjson.dumps({"files": files}).decode() if json else "\n".join(files)) + "\n")


def _named(site: str, edges: Sequence[str]) -> "Sequence[EdgeScope]":
    from industrialmind.commands_servers import parse_edges
    from industrialmind.servers import scopes
    from shared.names import check_id

    return scopes(check_id(site, "site"), parse_edges(edges))


def _assigned(data: Path) -> "tuple[Sequence[EdgeScope], Sequence[tuple[str, str]]]":
    """The running plant's edges with their machines, and machines in use that no edge speaks for, by its assets."""
    from industrialmind.client import Client
    from industrialmind.grants import EdgeScope
    from industrialmind.plant import DataDir

    with Client.of(DataDir(data)) as client:
        assigned = client.get("/v1/machines")["machines"]
        assets = client.get("/v1/assets/machine", limit=1000)["assets"]
    spoken: dict[tuple[str, str], list[str]] = {}
    for machine in assigned:
        spoken.setdefault((machine["site"], machine["edge"]), []).append(machine["machine"])
    known = {machine["machine"] for machine in assigned}
    lone = [
        (str(asset["fields"]["site"]), str(asset["id"]))
        for asset in assets
        if asset["id"] not in known and asset["fields"].get("site")
    ]
    return [EdgeScope(site, edge, tuple(sorted(machines))) for (site, edge), machines in spoken.items()], lone


def _show(folder: Path, issued: "Iterable[Issued]", *, as_json: bool) -> None:
    rows = [
        {
            "name": one.name,
            "authority": one.door,
            "generation": one.generation,
            "not_after": one.not_after.isoformat(),
            "revoked": one.revoked,
            "certificate": str(folder / "certs" / f"{one.name}.crt"),
        }
        for one in issued
    ]
    if as_json:
        sys.stdout.write(orjson.dumps(rows).decode() + "\n")
        return
    for row in rows:
        until = "revoked" if row["revoked"] else f"until {row['not_after']}"
        sys.stdout.write(f"{row['name']} ({row['authority']}) {until}: {row['certificate']}\n")
