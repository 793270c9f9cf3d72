"""The `mcp-hub` command. Without a subcommand it is the stdio server, and starts as lightly."""

import gc
import sys
from importlib import import_module
from importlib.metadata import version as installed_version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from mcp_hub.adapters.errors import HubError
from mcp_hub.server.cli.options import (
    Config,
    DataDir,
    LogLevel,
    Profile,
    ReadOnly,
    Root,
    Toolsets,
    new_app,
)

_COMMANDS = {
    "serve": "Serve MCP over HTTP at /mcp, with /health and /ready.",
    "worker": "Run queued jobs until stopped.",
    "up": "Make what the hub stands on, where it is missing.",
    "migrate": "Bring the database's schema to this version.",
    "copy": "Move everything from one hub into another.",
    "doctor": "Show the configuration, and check everything the hub stands on.",
    "info": "List the settings: what they mean, their variables and values.",
    "telemetry": "Bring telemetry in from files.",
    "train": "Submit training jobs and follow them.",
    "containers": "Run other MCP servers in containers, and build images of them.",
    "demo": "Run the main job through a real MCP client.",
    "install": "Put mcp-hub into an MCP client's configuration, or take it out.",
}


class _Commands(TyperGroup):
    """The subcommands: modules of this package, each imported when it is the one that runs."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            ctx.fail(f"No such command {cmd_name!r}. The commands are {', '.join(_COMMANDS)}.")
        command = get_command(import_module(f"{__name__}.{cmd_name}").app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


app = new_app(cls=_Commands)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mcp-hub {installed_version('mcp-hub')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    ctx: typer.Context,
    config: Config = None,
    profile: Profile = None,
    data_dir: DataDir = None,
    root: Root = None,
    toolsets: Toolsets = None,
    read_only: ReadOnly = None,
    log_level: LogLevel = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """One MCP server through which an LLM agent does machine learning for real.

    Without a command, mcp-hub speaks MCP on its standard input and output: that is how MCP
    clients start it. `mcp-hub install` configures them.
    """
    ctx.obj = {
        "config": config,
        "profile": profile,
        "data_dir": data_dir,
        "roots": root,
        "toolsets": toolsets,
        "read_only": read_only,
        "log_level": log_level,
    }
    if ctx.invoked_subcommand is None:
        # Thousands of classes are made from here on, and no garbage: run_stdio collects again.
        gc.disable()
        import_module(f"{__name__}.stdio").run(ctx)


def main() -> None:
    """Run the command of this process; a user's error is one line and a hint, no traceback."""
    try:
        app(prog_name="mcp-hub")
    except HubError as error:
        typer.echo(f"error: {error.message}", err=True)
        if error.hint:
            typer.echo(f"hint: {error.hint}", err=True)
        sys.exit(1)
