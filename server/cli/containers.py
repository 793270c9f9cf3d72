"""`mcp-hub containers`: what is done with other MCP servers from a shell."""

from mcp_hub.server.cli import containers_build, containers_run
from mcp_hub.server.cli.options import new_app

app = new_app()


@app.callback()
def containers() -> None:
    """Run other MCP servers in containers, and build images of them."""


containers_run.register(app)
app.command()(containers_build.build)
