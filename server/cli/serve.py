"""`mcp-hub serve`: MCP over Streamable HTTP."""

from typing import Annotated

import anyio
import typer

from mcp_hub.server.cli.options import (
    Config,
    DataDir,
    LogLevel,
    Profile,
    ReadOnly,
    Root,
    Toolsets,
    new_app,
    settings_for,
)
from mcp_hub.server.http import serve

app = new_app()


@app.command()
def run(
    ctx: typer.Context,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one.", show_default="3456")
    ] = None,
    config: Config = None,
    profile: Profile = None,
    data_dir: DataDir = None,
    root: Root = None,
    toolsets: Toolsets = None,
    read_only: ReadOnly = None,
    log_level: LogLevel = None,
) -> None:
    """Serve MCP over HTTP at /mcp, with /health, /ready and /metrics."""
    settings = settings_for(
        ctx,
        host=host,
        port=port,
        config=config,
        profile=profile,
        data_dir=data_dir,
        roots=root,
        toolsets=toolsets,
        read_only=read_only,
        log_level=log_level,
    )
    anyio.run(serve, settings, backend_options={"use_uvloop": True})
