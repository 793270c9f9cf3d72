"""Telemetry for the ingest benchmark, and a client as thin as one can be that sends it."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from typing import Any, Self

_BODIES = (
    "connection to 10.2.{0}.{1} refused after {2} ms",
    "user {2} logged in from 192.168.{0}.{1}",
    "GET /api/orders/{2} took {1} ms",
    "cache miss for key session:{2}, loading from replica-{0}",
    "payment {2} declined: insufficient funds",
    "retrying job {2}, attempt {0} of 5",
)
_ROUTES = ("/orders", "/cart", "/search", "/login", "/items")
_SERVICES = 12
_SPREAD_NS = 5 * 10**9
"""Exporters send what happened in the last seconds."""


def batches(count: int, size: int, seed: int) -> list[bytes]:
    """`count` JSON arrays of `size` records: logs, metrics, spans and events of some services."""
    chance = random.Random(seed)
    return [
        json.dumps([_record(chance) for _ in range(size)], separators=(",", ":")).encode()
        for _ in range(count)
    ]


def _record(chance: random.Random) -> dict[str, Any]:
    service = chance.randrange(_SERVICES)
    record: dict[str, Any] = {
        "time": time.time_ns() - chance.randrange(_SPREAD_NS),
        "service": f"service-{service}",
        "attributes": {
            "http.route": chance.choice(_ROUTES),
            "http.status_code": chance.choice((200, 200, 200, 404, 500)),
            "user.id": f"u{chance.randrange(100_000)}",
            "region": chance.choice(("eu", "us", "ap")),
            "retry": False,
        },
        "resource": {"host.name": f"host-{service}", "service.version": "1.4.2"},
    }
    kind = chance.randrange(10)
    if kind < 4:
        numbers = (chance.randrange(250), chance.randrange(250), chance.randrange(10**6))
        body = chance.choice(_BODIES).format(*numbers)
        return record | {"kind": "log", "name": "app", "severity": "info", "body": body}
    if kind < 7:
        name = f"queue.depth.{chance.randrange(5)}"
        return record | {"kind": "metric", "name": name, "value": chance.lognormvariate(3, 1)}
    if kind < 9:
        return record | {
            "kind": "span",
            "name": f"GET {chance.choice(_ROUTES)}",
            "trace_id": f"{chance.getrandbits(128):032x}",
            "span_id": f"{chance.getrandbits(64):016x}",
            "duration_ms": chance.lognormvariate(2, 1),
        }
    return record | {"kind": "event", "name": "order.placed"}


class Connection:
    """A kept-alive HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, body: bytes) -> None:
        """Send records and wait until they are committed."""
        self._writer.write(
            b"POST /api/telemetry/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        answer = await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200") or b'"rejected":[]' not in answer:
            raise RuntimeError((head + answer).decode())

    def close(self) -> None:
        self._writer.close()


async def send_all(port: int, bodies: Sequence[bytes], connections: int) -> float:
    """Seconds that it takes to have all bodies committed, over so many connections."""
    waiting = list(reversed(bodies))
    opened = [await Connection.open(port) for _ in range(connections)]

    async def work(connection: Connection) -> None:
        while waiting:
            await connection.post(waiting.pop())

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for connection in opened:
            tasks.create_task(work(connection))
    seconds = time.perf_counter() - begin
    for connection in opened:
        connection.close()
    return seconds


async def send_steadily(
    port: int, bodies: Sequence[bytes], per_s: int, connections: int
) -> list[float]:
    """Seconds to each body's commit from the moment that it was due, `per_s` of them a second."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    opened = [await Connection.open(port) for _ in range(connections)]
    for connection in opened:
        free.put_nowait(connection)
    times: list[float] = []

    async def send(body: bytes, due: float) -> None:
        connection = await free.get()
        await connection.post(body)
        free.put_nowait(connection)
        times.append(time.perf_counter() - due)

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number, body in enumerate(bodies):
            due = begin + number / per_s
            delay = due - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            tasks.create_task(send(body, due))
    for connection in opened:
        connection.close()
    return times
