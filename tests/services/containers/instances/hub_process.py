"""A hub process for tests: reads orders, a line of JSON each, and prints what came of them.

`{"name", "calls", "tool", "arguments", "session"}` makes that many calls at once, and prints a
list of their structured results, each `{"error": …}` where it failed. Ends with its input.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from mcp_hub.adapters.errors import HubError
from tests.services.containers.instances.hubs import Hub, Place, open_hub


async def main(folder: str, engine_url: str, image: str, database_url: str) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    place = Place(Path(folder), engine_url, image, database_url or None)
    async with open_hub(place) as hub, anyio.create_task_group() as tasks:
        say("ready")
        while line := await to_thread.run_sync(sys.stdin.readline):
            tasks.start_soon(obey, hub, json.loads(line))


async def obey(hub: Hub, order: dict[str, Any]) -> None:
    results: list[Any] = []

    async def call() -> None:
        try:
            results.append(
                await hub.call(
                    order["name"], order.get("tool", "count"), session=order.get("session"),
                    **order.get("arguments", {}),
                )
            )  # fmt: skip
        except HubError as error:
            results.append({"error": error.as_dict()})

    async with anyio.create_task_group() as tasks:
        for _ in range(order.get("calls", 1)):
            tasks.start_soon(call)
    say(results)


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
