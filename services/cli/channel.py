"""Channels: which there are, and the conformance kit for whoever writes one. Needs no broker and no database."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.output import note, show
from services.common.settings import wrong
from services.ingest import channels
from services.ingest.channels import BUILT_IN
from services.ingest.contract import GROUP, Channel, load, matrix_row, registry
from services.ingest.contract.kit import accept, cases, receives
from services.ingest.settings import IngestSettings

app = typer.Typer(help="What channels can do; the conformance kit for their authors.", no_args_is_help=True)
Which = Annotated[str, typer.Argument(help="A channel's name, the folder of its package, or its YAML file.")]


def find(which: str) -> tuple[Channel[Any], Path]:
    """The channel and its fixtures folder. BadParameter says what is missing."""
    place = Path(which)
    if place.suffix == ".yaml" and place.exists():
        return load(place), _fixtures(place.parent)
    if place.is_dir():
        return _from_folder(place), _fixtures(place)
    for channel in BUILT_IN:
        if channel.name == which:
            return channel, _fixtures(Path(channels.__file__).parent / which)
    for point in entry_points(group=GROUP, name=which):
        module = importlib.util.find_spec(point.module)
        if module and module.origin:
            return point.load(), _fixtures(Path(module.origin).parent)
    known = ", ".join(channel.name for channel in BUILT_IN)
    raise typer.BadParameter(f"there is no channel, folder or YAML file {which}; built in are {known}")


def _from_folder(folder: Path) -> Channel[Any]:
    """The CHANNEL of a package that need not be installed, or of the one YAML file in the folder."""
    declared = sorted(folder.glob("*.yaml"))
    if not (folder / "__init__.py").exists() and declared:
        return load(declared[0])
    name = folder.resolve().name
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None or not (folder / "__init__.py").exists():
        raise typer.BadParameter(f"{folder} holds no __init__.py and no YAML file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    channel = getattr(module, "CHANNEL", None)
    if not isinstance(channel, Channel):
        raise typer.BadParameter(f"{folder}/__init__.py has no CHANNEL")
    return channel


def _fixtures(folder: Path) -> Path:
    fixtures = folder / "fixtures"
    if not (fixtures / "accounts.json").exists():
        raise typer.BadParameter(f"{fixtures}/accounts.json is missing: example accounts, the first owns the door")
    return fixtures


@contextmanager
def _reading(fixtures: Path) -> Iterator[None]:
    """Says in which folder something stands that is no fixture."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(f"{fixtures}: {wrong(error)}") from error


@app.command("list")
def channel_list(*, as_json: Annotated[bool, typer.Option("--json", help="JSON lines, as in a pipe.")] = False) -> None:
    """Every channel of this installation and what it carries; a plug-in that cannot be loaded, and why. Exit 1 if there is one."""
    found = registry(BUILT_IN, entry_points(group=GROUP), IngestSettings().channels_dir)
    rows = [_row(channel) for channel in found.channels.values()]
    show(rows, ["channel", "title", "doors", "receives", "actions"], as_json=as_json)
    for name, why in found.broken.items():
        note(f"{name} is broken: {why}")
    if found.broken:
        raise typer.Exit(1)


def _row(channel: Channel[Any]) -> dict[str, Any]:
    """What it receives is known where its fixtures are at hand."""
    fixtures = Path(channels.__file__).parent / channel.name / "fixtures"
    return matrix_row(channel, receives(channel, fixtures) if fixtures.is_dir() else ())


@app.command("check")
def channel_check(which: Which) -> None:
    """Run the conformance kit. Exit 1 if a case fails."""
    channel, fixtures = find(which)
    total = failed = 0
    with _reading(fixtures):
        found = cases(channel, fixtures)
    for case in found:
        total += 1
        try:
            case.run()
        except Exception as error:
            failed += 1
            print(f"{case}: {error}")
    note(f"{channel.name}: {total} cases, {failed} failed")
    if failed:
        raise typer.Exit(1)


@app.command("accept")
def channel_accept(which: Which) -> None:
    """Write the outcome of every fixture beside it, and say which changed. Read them before you commit them."""
    channel, fixtures = find(which)
    with _reading(fixtures):
        changed = accept(channel, fixtures)
    for name in changed:
        print(fixtures / f"{name}.expected")
    note(f"{len(changed)} written; read what stands in them" if changed else "nothing has changed")
