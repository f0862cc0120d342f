"""Commands on people: `users list|add|role|password|activate|deactivate` and `tokens list|add|revoke`."""

import sys
from typing import Annotated, Any

import typer

from industrialmind.options import DATA, DataOption, JsonOption

users_app = typer.Typer(help="Who may sign in, and as what.", no_args_is_help=True)
tokens_app = typer.Typer(help="Tokens for programs.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="The user's name.")]
RoleArgument = Annotated[str, typer.Argument(help="viewer, operator, technician, engineer or admin.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(users_app, name="users")
    app.add_typer(tokens_app, name="tokens")


@users_app.command("list")
def users_list(data: DataOption = DATA, json: JsonOption = False) -> None:
    """Every user, by name."""
    from industrialmind.people_words import as_json, users_table

    found = _asked(data, "GET", "/v1/users")["users"]
    sys.stdout.write((as_json(found) if json else users_table(found)) + "\n")


@users_app.command("add")
def users_add(
    name: NameArgument,
    role: RoleArgument,
    display_name: Annotated[str, typer.Option(help="The name that is shown.")] = "",
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a password, or read one line from stdin.")
    ] = False,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Make a user. Without --password they can't sign in by one until it is set."""
    body: dict[str, Any] = {"name": name, "role": role, "display_name": display_name}
    if password:
        body["password"] = _password()
    made = _asked(data, "POST", "/v1/users", body)
    hint = "" if password else f"; industrialmind users password {name} lets them sign in"
    _told(made, f"user {name} made, {role}{hint}", json=json)


@users_app.command("role")
def users_role(
    name: NameArgument, role: RoleArgument, data: DataOption = DATA, json: JsonOption = False
) -> None:
    """Give a user another role, in force within two seconds."""
    made = _asked(data, "PATCH", f"/v1/users/{_part(name)}", {"role": role})
    _told(made, f"user {name} is {role} from now on", json=json)


@users_app.command("password")
def users_password(name: NameArgument, data: DataOption = DATA) -> None:
    """Set a user's password, asked for or one line of stdin. Their sessions end."""
    _asked(data, "PUT", f"/v1/users/{_part(name)}/password", {"password": _password()})
    sys.stdout.write(f"password of {name} set; their sessions ended\n")


@users_app.command("deactivate")
def users_deactivate(name: NameArgument, data: DataOption = DATA, json: JsonOption = False) -> None:
    """Let a user in no more: sessions end, tokens count no more, within two seconds."""
    made = _asked(data, "PATCH", f"/v1/users/{_part(name)}", {"active": False})
    _told(made, f"user {name} is deactivated", json=json)


@users_app.command("activate")
def users_activate(name: NameArgument, data: DataOption = DATA, json: JsonOption = False) -> None:
    """Let a user in again."""
    made = _asked(data, "PATCH", f"/v1/users/{_part(name)}", {"active": True})
    _told(made, f"user {name} is active", json=json)


@tokens_app.command("list")
def tokens_list(
    owner: Annotated[str, typer.Option(help="Only this user's.")] = "",
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Tokens, without their secrets."""
    from industrialmind.people_words import as_json, tokens_table

    found = _asked(data, "GET", f"/v1/tokens?owner={_part(owner)}" if owner else "/v1/tokens")["tokens"]
    sys.stdout.write((as_json(found) if json else tokens_table(found)) + "\n")


@tokens_app.command("add")
def tokens_add(
    owner: Annotated[str, typer.Argument(help="Whose it is: it never may more than its owner.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, operate, maintain, engineer or administer; again for more. read if none."),
    ] = None,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    days: Annotated[float, typer.Option(help="Days until it expires; 0: until it is revoked.", min=0)] = 90,
    data: DataOption = DATA,
    json: JsonOption = False,
) -> None:
    """Make a token and print its secret, this once, on stdout."""
    body = {"owner": owner, "label": label, "scopes": scope or ["read"], "expires_in_days": days or None}
    made = _asked(data, "POST", "/v1/tokens", body)
    _told(made, made["token"], json=json)


@tokens_app.command("revoke")
def tokens_revoke(
    token: Annotated[str, typer.Argument(help="The token's id, as tokens list shows it.")],
    data: DataOption = DATA,
) -> None:
    """Let nobody in by a token any more, within two seconds."""
    _asked(data, "DELETE", f"/v1/tokens/{_part(token)}")
    sys.stdout.write(f"token {token} revoked\n")


def _asked(data: Any, method: str, path: str, body: Any = None) -> Any:  # noqa: ANN401 - a path, JSON
    """The running plant's answer. Raises Unavailable, NotFound, Rejected."""
    from industrialmind.client import Client
    from industrialmind.plant import DataDir

    with Client.of(DataDir(data)) as client:
        return client.ask(method, path, body)


def _told(made: Any, said: str, *, json: bool) -> None:  # noqa: ANN401 - JSON
    from industrialmind.people_words import as_json

    sys.stdout.write((as_json(made) if json else said) + "\n")


def _password() -> str:
    """Typed twice unseen, or one line of stdin. Never an argument: those are seen by everybody on the machine."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


def _part(text: str) -> str:
    """A part of a path, whatever is in it."""
    from urllib.parse import quote

    return quote(text, safe="")
