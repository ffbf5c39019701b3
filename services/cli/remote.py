"""Commands that ask a running ingest, with an API key: accounts and dead letters."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field, SecretStr

from services.cli.output import note, show
from services.common.errors import ServiceAway
from services.common.http import Http
from services.common.settings import CommonSettings

account_app = typer.Typer(help="Connected pages, bots, numbers and addresses.", no_args_is_help=True)
dead_app = typer.Typer(help="What was set aside: read it, mend it, replay it or discard it.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="JSON lines, as in a pipe.")]


class ClientSettings(CommonSettings):
    key: SecretStr = Field(SecretStr(""), description="The API key that commands are given with")


def call(method: str, path: str, body: Any = None) -> Any:
    """The answer's JSON. Ends the command with the problem's own words."""
    settings = ClientSettings()
    key = settings.key.get_secret_value()
    if not key:
        raise typer.BadParameter("set HILO_KEY to an API key; `hilo key create TENANT NAME --scope admin` makes one")

    async def run() -> tuple[int, Any]:
        http = Http(settings)
        await http.start()
        try:
            answer = await http.service(method, settings.ingest_url + path, "", body, credential=key)
            return answer.status, answer.json()
        finally:
            await http.stop()

    try:
        status, found = asyncio.run(run())
    except ServiceAway as error:
        note(f"hilo: ingest does not answer at {settings.ingest_url}")
        raise typer.Exit(2) from error
    if status >= 300:
        note(f"hilo: {status} {(found or {}).get('code', '')}: {(found or {}).get('detail', '')}")
        for field in (found or {}).get("fields", []):
            note(f"  {field['at']}: {field['why']}")
        raise typer.Exit(1)
    return found


def fields(words: list[str]) -> dict[str, Any]:
    """`name=value`, or `name=@file` for what should not stand in the shell's history."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise typer.BadParameter(f"write {word} as name=value")
        text = _text(value)
        try:
            found[name] = json.loads(text) if text[:1] in "[{" else text
        except json.JSONDecodeError:
            found[name] = text
    return found


def _text(value: str) -> str:
    """`@file` is what stands in the file."""
    return _read(Path(value[1:])).strip() if value.startswith("@") else value


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from error


@account_app.command("list")
def account_list(*, channel: str | None = None, as_json: Json = False) -> None:
    """The tenant's accounts."""
    rows = call("GET", f"/v1/accounts{'?channel=' + channel if channel else ''}")["accounts"]
    shown = [{**row, "webhook": next((one["url"] for one in row["webhooks"]), "")} for row in rows]
    show(shown, ["channel", "id", "title", "state", "queue", "webhook"], as_json=as_json)


@account_app.command("add")
def account_add(
    channel: str,
    account: str,
    settings: Annotated[list[str] | None, typer.Argument(help="name=value, or name=@file")] = None,
    *,
    title: str | None = None,
    queue: str | None = None,
    language: str | None = None,
    state: Annotated[
        str | None,
        typer.Option(help="active, or paused: it is not polled and nothing is sent; what the provider brings is still taken."),
    ] = None,
) -> None:
    """Connect an account, or change it: `hilo account add telegram mybot bot=my_bot token=@token.txt webhook_secret=@hook.txt`.
    Prints the address to give to the provider. What docs/channels.md lists as needed must be there the first time."""
    wish = {"fields": fields(settings or []), "title": title, "queue": queue, "language": language, "state": state}
    made = call("PUT", f"/v1/accounts/{channel}/{account}", {name: value for name, value in wish.items() if value is not None})
    for one in made["webhooks"]:
        print(one["url"])


@account_app.command("show")
def account_show(channel: str, account: str) -> None:
    """One account, without its secrets."""
    print(json.dumps(call("GET", f"/v1/accounts/{channel}/{account}"), ensure_ascii=False, indent=2))


@account_app.command("subscribe")
def account_subscribe(channel: str, account: str) -> None:
    """Tell the provider our webhook's address, where it can be told by a call."""
    print(call("POST", f"/v1/accounts/{channel}/{account}/subscribe")["url"])


@account_app.command("rotate")
def account_rotate(
    channel: str,
    account: str,
    secret: str,
    *,
    add: Annotated[str | None, typer.Option(help="The new value, or @file.")] = None,
    retire: Annotated[bool, typer.Option(help="All older values are refused from now on.")] = False,
) -> None:
    """Add a new value of a secret, tell the provider, then retire the old ones with --retire."""
    value = _text(add) if add else None
    made = call("POST", f"/v1/accounts/{channel}/{account}/rotate", {"secret": secret, "add": value, "retire": retire})
    note(f"{secret}: {made['secrets'].get(secret, 0)} valid")


@account_app.command("remove")
def account_remove(channel: str, account: str, *, yes: bool = False) -> None:
    """Disconnect an account; its secrets are destroyed and its id stays taken."""
    if not yes:
        typer.confirm(f"Disconnect {channel}/{account} and destroy its secrets?", abort=True)
    call("DELETE", f"/v1/accounts/{channel}/{account}")


@dead_app.command("list")
def dead_list(*, state: str = "open", as_json: Json = False) -> None:
    """What waits for a decision."""
    rows = call("GET", f"/v1/dead?state={state}")["dead"]
    show(rows, ["id", "channel", "stage", "kind", "reason", "state"], as_json=as_json)


@dead_app.command("show")
def dead_show(dead_id: str) -> None:
    """One, with its original bytes."""
    print(json.dumps(call("GET", f"/v1/dead/{dead_id}"), ensure_ascii=False, indent=2))


@dead_app.command("replay")
def dead_replay(
    dead_id: str,
    *,
    edit: Annotated[Path | None, typer.Option(help="A file with the mended slice.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what it would give.")] = False,
) -> None:
    """Replay it, as it was or mended. Exit 1 if it is still not understood."""
    body: dict[str, Any] = {"dry_run": dry_run}
    if edit:
        try:
            body["slice"] = json.loads(_read(edit))
        except json.JSONDecodeError as error:
            raise typer.BadParameter(f"{edit} is not JSON: {error}") from error
    found = call("POST", f"/v1/dead/{dead_id}/replay", body)
    print(json.dumps(found, ensure_ascii=False, indent=2))
    if found.get("quarantined"):
        sys.exit(1)


@dead_app.command("discard")
def dead_discard(dead_id: str, why: Annotated[str, typer.Option(prompt="Why")]) -> None:
    """Give it up, with the reason."""
    call("POST", f"/v1/dead/{dead_id}/discard", {"why": why})
