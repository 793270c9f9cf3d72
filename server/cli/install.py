"""`mcp-hub install`: into Claude Desktop, into Claude Code, or as JSON to paste."""

import json
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mcp_hub.server import clients
from mcp_hub.server.cli.options import (
    Config,
    DataDir,
    Profile,
    ReadOnly,
    Root,
    Toolsets,
    new_app,
    settings_for,
)
from mcp_hub.server.settings import TOOLSETS

app = new_app(
    no_args_is_help=True, help="Put mcp-hub into an MCP client's configuration, or take it out."
)

File = Annotated[
    Path | None,
    typer.Option("--path", metavar="FILE", help="The client's file.", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what the file would be.")]
Remove = Annotated[bool, typer.Option("--remove", help="Take mcp-hub out again.")]


class Scope(StrEnum):
    """Whose Claude Code: everybody's in this project, or one's own everywhere."""

    project = "project"
    user = "user"


@app.command("claude-desktop")
def claude_desktop(
    ctx: typer.Context,
    config: Config = None,
    profile: Profile = None,
    data_dir: DataDir = None,
    root: Root = None,
    toolsets: Toolsets = None,
    read_only: ReadOnly = None,
    path: File = None,
    dry_run: DryRun = False,
    remove: Remove = False,
) -> None:
    """Merge mcp-hub into claude_desktop_config.json; other servers stay as they are."""
    added = _entry(ctx, config, profile, data_dir, root, toolsets, read_only)
    if _change_file(path or clients.desktop_file(), added, dry_run, remove):
        typer.echo("Quit and reopen Claude Desktop for this to take effect.")
        if "--root" not in added["args"] and not remove:
            typer.echo("It reads data from ~/mcp-hub; name another folder with --root.")


@app.command("claude-code")
def claude_code(
    ctx: typer.Context,
    config: Config = None,
    profile: Profile = None,
    data_dir: DataDir = None,
    root: Root = None,
    toolsets: Toolsets = None,
    read_only: ReadOnly = None,
    scope: Annotated[
        Scope, typer.Option(help="This project's .mcp.json, or all of your projects.")
    ] = Scope.project,
    path: File = None,
    dry_run: DryRun = False,
    remove: Remove = False,
) -> None:
    """Merge mcp-hub into this folder's .mcp.json, or run `claude mcp add --scope user`."""
    added = _entry(ctx, config, profile, data_dir, root, toolsets, read_only)
    if scope is Scope.user and path is None:
        commands = clients.claude_command(None if remove else added)
        if dry_run:
            typer.echo("\n".join(shlex.join(command) for command in commands))
            return
        clients.run_claude(commands)
        typer.echo("Removed from" if remove else "Added to", nl=False)
        typer.echo(" your Claude Code servers (`claude mcp list`).")
        return
    file = path or clients.project_file(Path.cwd())
    if _change_file(file, {"type": "stdio", **added}, dry_run, remove) and not remove:
        typer.echo("Claude Code asks once whether this project's servers may start.")


@app.command("json")
def print_json(
    ctx: typer.Context,
    config: Config = None,
    profile: Profile = None,
    data_dir: DataDir = None,
    root: Root = None,
    toolsets: Toolsets = None,
    read_only: ReadOnly = None,
) -> None:
    """Print the JSON to paste into any MCP client's configuration."""
    added = _entry(ctx, config, profile, data_dir, root, toolsets, read_only)
    typer.echo(json.dumps({"mcpServers": {clients.NAME: added}}, indent=2))


def _entry(
    ctx: typer.Context,
    config: Path | None,
    profile: str | None,
    data_dir: Path | None,
    root: list[Path] | None,
    toolsets: str | None,
    read_only: bool | None,
) -> clients.Entry:
    """The entry with the flags that were given passed on, paths made absolute."""
    settings = settings_for(
        ctx,
        config=config,
        profile=profile,
        data_dir=data_dir,
        roots=root,
        toolsets=toolsets,
        read_only=read_only,
    )
    given = {**ctx.find_root().obj}
    config = config or given["config"]
    arguments: list[str] = []
    if config:
        arguments += ["--config", str(config.expanduser().absolute())]
    if profile or given["profile"]:
        arguments += ["--profile", str(settings.profile)]
    if data_dir or given["data_dir"]:
        arguments += ["--data-dir", str(settings.data_dir)]
    if root or given["roots"]:
        for folder in settings.roots:
            arguments += ["--root", str(folder)]
    if (toolsets or given["toolsets"]) and settings.toolsets != list(TOOLSETS):
        arguments += ["--toolsets", ",".join(settings.toolsets)]
    if read_only or given["read_only"]:
        arguments.append("--read-only")
    return clients.entry(arguments)


def _change_file(path: Path, added: clients.Entry, dry_run: bool, remove: bool) -> bool:
    """Make the change, or print it; whether the file is another than before."""
    change = clients.removing(path) if remove else clients.adding(path, added)
    if change.text is None:
        typer.echo(f"{path} {'does not name mcp-hub' if remove else 'is as it should be'}.")
        return False
    if dry_run:
        typer.echo(f"{path} would become:")
        typer.echo(change.text, nl=False)
        return False
    backup = clients.apply(change)
    typer.echo(f"{'Removed mcp-hub from' if remove else 'Added mcp-hub to'} {path}.")
    if backup:
        typer.echo(f"The file before is {backup}.")
    return True
