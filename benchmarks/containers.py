"""Time of a call of a tool in a container, through the hub, beside the same server without either.

The server is `tests/containers/servers/echo.py`, and the client the SDK's own, over stdio. It is
called in turn by itself, behind a proxy that passes calls on and does nothing else
(`bare_proxy.py`), in a container behind the least that a hub can be (`bare_relay.py`), and through
the hub, after a warm-up; then so often in a row. Then first calls, in rounds: of a server
whose container is started by the call, of one from the pool, and of one by `docker run` per call.
What has rested is slower than what is called in a row, whoever calls it: so the first call is
compared with a later call of the same server after the same rest, and calls in a row are shown
beside.

Without `--engine` it starts a Docker engine of its own, which needs root.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import CallToolResult
from stdio import hub_command

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.containers.images import PYTHON, SERVERS
from tests.engine import add_python, shared_engine

RATIO_LIMIT, OVERHEAD_LIMIT_MS, PREWARMED_LIMIT = 1.5, 3.0, 1.3
SERVER = ["python3", "/servers/echo.py"]
PROXY, RELAY = (
    [sys.executable, str(Path(__file__).with_name(name))]
    for name in ("bare_proxy.py", "bare_relay.py")
)
BARE = [sys.executable, str(SERVERS / "echo.py")]
ARGUMENTS = {"text": "x" * 32}
NAMES = {
    "bare": "bare server over stdio",
    "proxy": "the same behind a bare proxy",
    "relay": "in a container, bare relay",
    "hub": "container_call, warm",
}
_READY_S = 30.0
_REST_S = 1.0


async def called(client: Client, tool: str, arguments: Mapping[str, Any]) -> CallToolResult:
    """The result of a tool call that must succeed."""
    result = await client.call_tool(tool, dict(arguments))
    if result.is_error:
        raise RuntimeError(f"{tool} failed: {result.content}")
    return result


async def timed(client: Client, tool: str, arguments: Mapping[str, Any]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    await called(client, tool, arguments)
    return (time.perf_counter() - began) * 1000


def in_container(name: str) -> dict[str, Any]:
    """The arguments of `container_call`."""
    return {"name": name, "tool": "echo", "arguments": ARGUMENTS}


async def warm_calls(clients: Mapping[str, Client], calls: int, warm_up: int) -> dict[str, Any]:
    """Calls of each in turn, and then of each in a row; the last client is the hub's."""

    async def call(name: str) -> float:
        if name == "hub":
            return await timed(clients[name], "container_call", in_container("warm"))
        return await timed(clients[name], "echo", ARGUMENTS)

    times: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(warm_up + calls):
        for name in clients:
            ms = await call(name)
            if number >= warm_up:
                times[name].append(ms)
    in_a_row = {name: median([await call(name) for _ in range(calls)]) for name in clients}
    middle = {name: median(some) for name, some in times.items()}
    return {
        "ratio": middle["hub"] / middle["bare"],
        "overhead_ms": middle["hub"] - middle["bare"],
        "calls": calls,
        "clients": {
            name: {
                "p50_ms": middle[name],
                "p99_ms": quantiles(times[name], n=100)[98],
                "ratio": middle[name] / middle["bare"],
                "in_a_row_ms": in_a_row[name],
            }
            for name in clients
        },
    }


async def first_calls(hub: Client, engine: str, rounds: int) -> dict[str, Any]:
    """Medians of the rounds, in milliseconds; `warm` is the pool's own server, called again."""
    times: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name in ("cold", "pool"):
            await called(hub, "container_stop", {"name": name})
            await until_running(hub, name, 0)
            await called(hub, "container_start", {"name": name})
        await until_running(hub, "pool", 1)
        for name in ("pool", "warm"):
            await asyncio.sleep(_REST_S)
            times[name].append(await timed(hub, "container_call", in_container("pool")))
        again = [await timed(hub, "container_call", in_container("pool")) for _ in range(10)]
        times["in a row"].append(median(again))
        times["cold"].append(await timed(hub, "container_call", in_container("cold")))
        times["docker run"].append(await by_docker_run(engine))
        async with Client(parameters(BARE)) as bare:
            for name in ("bare", "bare again"):
                await asyncio.sleep(_REST_S)
                times[name].append(await timed(bare, "echo", ARGUMENTS))
            again = [await timed(bare, "echo", ARGUMENTS) for _ in range(10)]
            times["bare in a row"].append(median(again))
    found: dict[str, Any] = {name: median(took) for name, took in times.items()}
    return found | {
        "ratio": median(a / b for a, b in zip(times["pool"], times["warm"], strict=True)),
        "rounds": rounds,
    }


async def until_running(hub: Client, name: str, count: int) -> None:
    """Return once so many containers of a deployment are ready."""
    async with asyncio.timeout(_READY_S):
        while True:
            told = (await called(hub, "container_get", {"name": name})).structured_content or {}
            instances = told["instances"]
            if len(instances) == count and all(one["state"] == "ready" for one in instances):
                return
            await asyncio.sleep(0.05)


async def by_docker_run(engine: str) -> float:
    """From before the spawn until the answer to the one call."""
    docker = shutil.which("docker") or "docker"
    arguments = ["--host", engine, "run", "--rm", "-i", PYTHON, *SERVER]
    began = time.perf_counter()
    async with Client(StdioServerParameters(command=docker, args=arguments)) as client:
        await called(client, "echo", ARGUMENTS)
        return (time.perf_counter() - began) * 1000


def parameters(command: Sequence[str], **variables: str) -> StdioServerParameters:
    program, *arguments = command
    return StdioServerParameters(command=program, args=arguments, env={**os.environ, **variables})


async def measure(engine: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        commands = {
            "bare": BARE, "proxy": [*PROXY, *BARE], "relay": [*RELAY, engine, PYTHON, *SERVER],
        }  # fmt: skip
        clients = {
            name: await stack.enter_async_context(Client(parameters(command)))
            for name, command in commands.items()
        }
        hub = await stack.enter_async_context(
            Client(parameters(hub_command(folder), MCP_HUB_CONTAINERS__ENGINE_URL=engine))
        )
        common = {"image": PYTHON, "command": SERVER, "options": {"stop_grace_s": 0}}
        for name, strategy in (("warm", "always_on"), ("cold", "on_demand"), ("pool", "prewarmed")):
            deployed = {"name": name, "strategy": strategy, **common}
            await called(hub, "container_deploy", deployed)
        clients["hub"] = hub
        result = {"warm": await warm_calls(clients, options.calls, options.warm_up)}
        if options.rounds:
            result["first"] = await first_calls(hub, engine, options.rounds)
        for name in ("warm", "cold", "pool"):
            await called(hub, "container_remove", {"name": name})
        return result


def shown(result: Mapping[str, Any]) -> str:
    warm = result["warm"]
    lines = [f"one call, of {warm['calls']} in turn          p50       p99   times bare   in a row"]
    lines += [
        f"  {NAMES[name]:28} {found['p50_ms']:6.2f} ms {found['p99_ms']:6.2f} ms "
        f"{found['ratio']:8.2f}    {found['in_a_row_ms']:8.2f} ms"
        for name, found in warm["clients"].items()
    ]
    lines += [
        f"  through the hub: {warm['ratio']:.2f} times bare (at most {RATIO_LIMIT}), "
        f"{warm['overhead_ms']:.2f} ms more (at most {OVERHEAD_LIMIT_MS:g} ms)",
    ]
    if first := result.get("first"):
        lines += [
            f"first call, median of {first['rounds']} rounds",
            f"  docker run for the call        {first['docker run']:6.0f} ms",
            f"  container_call, on demand      {first['cold']:6.0f} ms",
            f"  container_call, pre-warmed     {first['pool']:6.2f} ms",
            f"  container_call, warm, rested   {first['warm']:6.2f} ms, "
            f"in a row {first['in a row']:.2f} ms",
            f"  bare server, begun and rested  {first['bare']:6.2f} ms, "
            f"again {first['bare again']:.2f} ms, in a row {first['bare in a row']:.2f} ms",
            f"  pre-warmed / warm              {first['ratio']:6.2f}     "
            f"(at most {PREWARMED_LIMIT})",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", help="unix:///path of a Docker engine")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--warm-up", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mcp-hub-bench-") as folder, ExitStack() as stack:
        engine = options.engine or stack.enter_context(shared_engine(Path(folder) / "engine"))
        add_python(engine)
        result = asyncio.run(measure(engine, Path(folder), options))
    print(json.dumps(result) if options.json else shown(result))


if __name__ == "__main__":
    main()
