"""A hub process that listens, as a process of its own, which can be killed."""

from pathlib import Path
from typing import Any

import anyio

from mcp_hub.services.containers.wire.calls import Caller
from mcp_hub.services.containers.wire.peers.listening import listen_unix
from mcp_hub.services.containers.wire.peers.serving import PeerRequest, serve_peers

SECRET = "s3cret"


async def serve(folder: Path) -> None:
    """Serve on a socket below `folder`, whose address is then in its file `address`."""
    async with listen_unix(folder) as listening, anyio.create_task_group() as tasks:
        tasks.start_soon(serve_peers, listening, SECRET, handle)
        (folder / "written").write_text(listening.address)
        (folder / "written").rename(folder / "address")


async def handle(request: PeerRequest, caller: Caller) -> dict[str, Any]:
    if request.op == "hang":
        await caller.progress({"progress": 1})
        await anyio.sleep_forever()
    return request.params
