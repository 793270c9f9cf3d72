"""`mcp-hub containers build`: an image of a server that has no Dockerfile."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import anyio
import typer

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.server.adapters import choose_engine
from mcp_hub.server.cli.options import Config, DataDir, Json, settings_for
from mcp_hub.server.cli.output import console
from mcp_hub.server.settings import Settings
from mcp_hub.services.containers.building.service import Builder, Built, Choices

_MB = 1_000_000


def build(
    ctx: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The server's folder.", show_default=False)
    ] = None,
    package: Annotated[
        str | None,
        typer.Option(
            metavar="PACKAGE", help="A package of PyPI, or npm:PACKAGE, instead of a folder."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What its deployment will be called.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option(metavar="TAG", help="The image's; localhost/NAME:latest if unset.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE",
            help="What it is built upon; python:3.13-slim or node:24-slim if unset.",
        ),
    ] = None,
    kind: Annotated[
        Literal["docker", "python", "node"] | None,
        typer.Option(help="What the folder is, where that is not plain.", show_default=False),
    ] = None,
    script: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What starts the server: a script's name or a file."),
    ] = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Build an image of an MCP server, from the folder DIR or of a package.

    A folder is built by its Dockerfile, if it has one. Otherwise it holds a Python server
    (pyproject.toml, requirements.txt with server.py, or server.py alone) or a Node server
    (package.json). What it needs is fetched here, by pip or npm as they are set up, and none of
    it is run; the build itself has no network.
    """
    if (folder is None) == (package is None):
        raise InvalidArgument(
            "Name a folder or a package, and not both.",
            "mcp-hub containers build DIR, or mcp-hub containers build --package mcp-server-time",
        )
    settings = settings_for(ctx, config=config, data_dir=data_dir)
    choices = Choices(name, tag, base, kind, script)
    built = anyio.run(_build, settings, folder, package, choices, as_json)
    if as_json:
        typer.echo(json.dumps(asdict(built), indent=2))
        return
    out = console()
    out.print(
        f"Built {built.tag} ({built.id[:19]}, {built.size / _MB:.0f} MB). It runs: "
        f"{shlex.join(built.command)}",
        soft_wrap=True,
    )
    out.print(
        f"Deploy it: mcp-hub containers deploy {built.name} {built.tag}",
        soft_wrap=True,
    )


async def _build(
    settings: Settings, folder: Path | None, package: str | None, choices: Choices, quiet: bool
) -> Built:
    out = console(stderr=True)

    async def told(line: str) -> None:
        if not quiet:
            out.print(line, soft_wrap=True)

    engine = choose_engine(settings.containers.engine_url)
    try:
        builder = Builder(engine)
        if package is not None:
            return await builder.build_package(package, choices, told)
        assert folder is not None
        return await builder.build_folder(folder, choices, told)
    finally:
        await engine.close()
