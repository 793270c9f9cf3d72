"""`mcp-hub` without a command: the stdio server."""

import sys

import anyio
import typer

from mcp_hub.server.cli.options import settings_for
from mcp_hub.server.stdio import run_stdio


def run(ctx: typer.Context) -> None:
    """Serve MCP on standard input and output until the input ends."""
    settings = settings_for(ctx)
    if sys.stdin.isatty():
        typer.echo(
            "mcp-hub speaks MCP here, to a client that starts it; Ctrl-D ends it. "
            "See `mcp-hub --help` and `mcp-hub install --help`.",
            err=True,
        )
    anyio.run(run_stdio, settings, backend_options={"use_uvloop": True})
