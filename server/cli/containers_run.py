"""`mcp-hub containers`: what the tools of containers do, for a person at a shell."""

import json
from collections.abc import Awaitable, Callable
from getpass import getuser
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anyio
import typer
from pydantic import BaseModel

from mcp_hub.adapters.errors import HubError, InvalidArgument
from mcp_hub.server.cli.options import Config, DataDir, Json, Root, settings_for
from mcp_hub.server.cli.output import console, print_table
from mcp_hub.server.composition import open_hub
from mcp_hub.server.settings import Settings
from mcp_hub.services.containers.importing import Imported, imported, read_servers
from mcp_hub.services.containers.service import ContainersService

T = TypeVar("T")

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("list")(list_containers)
    app.command("import")(import_config)
    for command in (get, deploy, start, stop, remove, logs, tools, call):
        app.command()(command)


def list_containers(
    ctx: typer.Context, config: Config = None, data_dir: DataDir = None, as_json: Json = False
) -> None:
    """List the deployed MCP servers."""
    page = _with(ctx, config, data_dir, lambda c: c.showing.list(limit=200))
    if as_json:
        typer.echo(page.model_dump_json(indent=2))
        return
    print_table(
        ["name", "status", "running", "image", "strategy", "tools", "error"],
        [
            [c.name, c.status, c.running, c.image, c.strategy, c.tools, c.error and c.error.message]
            for c in page.items
        ],
        empty="No containers yet: `mcp-hub containers deploy --help`.",
    )


def get(ctx: typer.Context, name: Name, config: Config = None, data_dir: DataDir = None) -> None:
    """Show a deployment as JSON."""
    _show(_with(ctx, config, data_dir, lambda c: c.showing.get(name)))


def deploy(
    ctx: typer.Context,
    name: Name,
    image: Annotated[str, typer.Argument(metavar="IMAGE", show_default=False)],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGUMENT…", help="After --, instead of the image's."),
    ] = None,
    options: Annotated[
        str, typer.Option(metavar="JSON", help="The rest of the spec, as container_deploy has it.")
    ] = "{}",
    config: Config = None,
    data_dir: DataDir = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Deploy an MCP server, or change one."""
    said = {**_object(options, "--options"), "name": name, "image": image}
    if command:
        said["command"] = command
    done = _with(ctx, config, data_dir, lambda c: _deployed(c, said, as_json), root=root)
    if as_json:
        _show(done)
        return
    state = "is in force" if done.changed else "was in force already"
    typer.echo(f"{name}: revision {done.revision} {state}; {len(done.tools)} tools.")
    for way in done.weakened:
        typer.echo(f"  weakened: {way}")


def start(
    ctx: typer.Context,
    name: Name,
    revision: Annotated[
        int | None, typer.Option(metavar="N", help="Go back to this one first.", show_default=False)
    ] = None,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Let a stopped deployment run again, or roll back to an earlier revision."""

    async def work(containers: ContainersService) -> Any:
        if revision is not None:
            await containers.deploying.roll_back(name, revision, by=_who(), admin=True)
        return await containers.deploying.start(name)

    _show(_with(ctx, config, data_dir, work))


def stop(ctx: typer.Context, name: Name, config: Config = None, data_dir: DataDir = None) -> None:
    """Stop a deployment until it is started."""
    _show(_with(ctx, config, data_dir, lambda c: c.deploying.stop(name)))


def remove(ctx: typer.Context, name: Name, config: Config = None, data_dir: DataDir = None) -> None:
    """Stop a deployment and forget it."""
    _show(_with(ctx, config, data_dir, lambda c: c.deploying.remove(name)))


def logs(
    ctx: typer.Context,
    name: Name,
    tail: Annotated[int, typer.Option(help="Lines to show, 1 to 1000.")] = 100,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Print the last lines that a deployment's containers wrote."""
    found = _with(ctx, config, data_dir, lambda c: c.logs.read(name, tail=tail))
    for line in found.lines:
        typer.echo(f"{line.time} {line.text}")
    if found.note:
        typer.echo(found.note, err=True)


def tools(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", show_default=False)] = None,
    query: Annotated[
        str | None, typer.Option(help="What the tool should do.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="Tools to show, at most 200.")] = 50,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List the tools of one deployment or of all; with --query, the best first."""
    found = _with(
        ctx, config, data_dir, lambda c: c.finding.find(name, query, limit=limit)
    )  # fmt: skip
    if as_json:
        _show(found)
        return
    print_table(
        ["container", "tool", "description", ""],
        [
            [t.container, t.tool, t.description.partition("\n")[0], t.quarantined and "quarantined"]
            for t in found.items
        ],
        empty="No tools.",
    )


def call(
    ctx: typer.Context,
    name: Name,
    tool: Annotated[str, typer.Argument(metavar="TOOL", show_default=False)],
    arguments: Annotated[str, typer.Argument(metavar="JSON")] = "{}",
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Call a tool, and print its result as JSON. Status 1 means that it is an error."""
    said = _object(arguments, "The arguments")
    result = _with(
        ctx, config, data_dir, lambda c: c.calling.call(name, tool, said, session=getuser())
    )
    typer.echo(json.dumps(result, indent=2, ensure_ascii=False))
    if result.get("isError"):
        raise typer.Exit(1)


def import_config(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", show_default=False)
    ],
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=IMAGE", help="The image of a server that runs by npx, uvx or the like."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Deploy nothing.")] = False,
    config: Config = None,
    data_dir: DataDir = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Deploy the servers of an MCP client's configuration, such as
    claude_desktop_config.json: those that run by `docker run`, and those that an image is named
    for. Status 1 means that some were refused."""
    servers = read_servers(_json(file.read_text(encoding="utf-8"), str(file)))
    images = dict(_named(text) for text in image or ())
    unknown = images.keys() - servers.keys()
    if unknown:
        raise InvalidArgument(
            f"{file} has no server {sorted(unknown)[0]!r}.", f"It has {', '.join(servers)}."
        )
    planned = [imported(name, server, images) for name, server in servers.items()]
    done = _with(
        ctx, config, data_dir, lambda c: _import(c, planned, dry_run, as_json), root=root
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps([one.model_dump(exclude_none=True) for one in done], indent=2))
    else:
        _print_imported(done, dry_run)
    if any(one.refused for one in done):
        raise typer.Exit(1)


async def _import(
    containers: ContainersService, planned: list[Imported], dry_run: bool, quiet: bool
) -> list[Imported]:
    done = []
    for one in planned:
        if one.spec is not None:
            try:
                if dry_run:
                    await containers.deploying.check(one.spec, admin=False)
                else:
                    await _deployed(containers, one.spec, quiet, admin=False)
            except HubError as error:
                reason = f"{error.message} {error.hint}" if error.hint else error.message
                one = one.model_copy(update={"spec": None, "refused": reason})
        done.append(one)
    return done


def _print_imported(done: list[Imported], dry_run: bool) -> None:
    out = console()
    for one in done:
        verb = "would be deployed" if dry_run else "is deployed"
        state = f"refused: {one.refused}" if one.refused else verb
        out.print(f"{one.name}: {state}", soft_wrap=True)
        for note in one.notes:
            out.print(f"  {note}", soft_wrap=True)


async def _deployed(
    containers: ContainersService, said: dict[str, Any], quiet: bool, *, admin: bool = True
) -> Any:
    async def told(line: str) -> None:
        if not quiet:
            typer.echo(line, err=True)

    return await containers.deploying.deploy(said, by=_who(), admin=admin, told=told)


def _who() -> str:
    return f"mcp-hub containers, {getuser()}"


def _with(
    ctx: typer.Context,
    config: Path | None,
    data_dir: Path | None,
    work: Callable[[ContainersService], Awaitable[T]],
    *,
    root: list[Path] | None = None,
) -> T:
    settings = settings_for(ctx, config=config, data_dir=data_dir, roots=root)

    async def run(settings: Settings) -> T:
        async with open_hub(settings) as hub:
            return await work(await hub.containers())

    return anyio.run(run, settings)


def _show(view: BaseModel) -> None:
    typer.echo(view.model_dump_json(indent=2, exclude_none=True))


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"{what} cannot be parsed as JSON: {error}.") from error


def _object(text: str, what: str) -> dict[str, Any]:
    value = _json(text, what)
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what} must be a JSON object.")
    return value


def _named(text: str) -> tuple[str, str]:
    name, equals, image = text.partition("=")
    if not (name and equals and image):
        raise InvalidArgument(f"--image {text} is not NAME=IMAGE.")
    return name, image
