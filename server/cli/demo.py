"""`mcp-hub demo`: the main job, printed call by call."""

from mcp_hub.server.cli.options import new_app
from mcp_hub.server.cli.output import console
from mcp_hub.server.demo import run_demo

app = new_app()


@app.command()
def run() -> None:
    """Run the main job through a real MCP client, in a temporary folder.

    Profiles a real data set, trains, follows the job, promotes the model through a gate and
    predicts with it. Ends with status 1 if anything is not as promised.
    """
    run_demo(console())
