"""`mcp-hub migrate`: bring the database's schema to this version."""

import anyio
import typer

from mcp_hub.server.cli.options import Config, DataDir, new_app, settings_for
from mcp_hub.server.composition import migrate

app = new_app()


@app.command()
def run(ctx: typer.Context, config: Config = None, data_dir: DataDir = None) -> None:
    """Bring the database's schema to this version.

    Every hub process does this when it starts; run it ahead where that should be a step of its
    own.
    """
    applied = anyio.run(migrate, settings_for(ctx, config=config, data_dir=data_dir))
    typer.echo(f"Applied {', '.join(applied)}." if applied else "The schema is up to date.")
