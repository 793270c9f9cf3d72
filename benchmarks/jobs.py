"""A long queue under load: four clients fill it, a worker empties it, and somebody looks on.

Four MCP client processes, each with a hub of its own over stdio, submit jobs of mixed priorities
while a worker runs ten at a time; a fifth asks for `training_status` and `training_list` all the
while. The store that they share is SQLite, or PostgreSQL and Redis with `--servers`. A job is real
and tiny: the tests' framework `probe` in a process of its own, whose model is registered. The echo
of a bare MCP server, asked in turn with the hub, tells how much of a call is the machine's load.

It tells how long a submission and the calls take, whether a job ever started while another came
before it, and how the worker's memory grows from the first jobs to the last.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from heapq import heappop, heappush
from itertools import cycle
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from sqlalchemy import func, select
from stdio import BARE, StdioServer

from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.schema import job_attempts, jobs
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.queue.port import AGEING_S

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests import servers
from tests.processes import hub_environment, start

CLIENTS = 4
LIMIT_MS = 50.0
POINTS = "x,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(20))
PRIORITIES = (-20, -5, 0, 0, 0, 5, 20)
SETTINGS = {
    "MCP_HUB_TRAINING__AUTOSTART_WORKER": "false",
    "MCP_HUB_TRAINING__LEASE_S": "30",
    "MCP_HUB_TRAINING__HEARTBEAT_S": "5",
    "MCP_HUB_TRAINING__CONCURRENCY": "10",
}
_SLACK_S = 2.0
"""A job that came, or started, within so long of another may have missed it."""


class Start(NamedTuple):
    """When a job came and first started, in seconds; `started` is infinite for one that waits."""

    came: float
    started: float
    priority: int

    @property
    def rank(self) -> float:
        return self.came - self.priority * AGEING_S


def out_of_order(starts: Sequence[Start]) -> int:
    """How many jobs started although another that came before them in the order was waiting."""
    by_arrival = sorted(starts)
    waiting: list[tuple[float, Start]] = []
    wrong = arrived = 0
    for job in sorted(starts, key=lambda one: one.started):
        if job.started == float("inf"):
            break
        while arrived < len(by_arrival) and by_arrival[arrived].came < job.started - _SLACK_S:
            heappush(waiting, (by_arrival[arrived].rank, by_arrival[arrived]))
            arrived += 1
        while waiting and waiting[0][1].started <= job.started + _SLACK_S:
            heappop(waiting)
        wrong += bool(waiting) and waiting[0][0] < job.rank - _SLACK_S
    return wrong


@contextmanager
def hub(environment: Mapping[str, str]) -> Iterator[StdioServer]:
    """A hub over stdio, and a client of it."""
    with StdioServer([sys.executable, "-m", "mcp_hub"], environment) as server:
        server.initialize()
        yield server


def submit_all(environment: Mapping[str, str], count: int, seed: int) -> list[float]:
    """Submit `count` jobs, one after the other; how long each took, in milliseconds."""
    chance = random.Random(seed)
    times = []
    with hub(environment) as server:
        for number in range(count):
            request = {
                "name": f"model-{number % 10}", "type": "probe", "framework": "probe",
                "dataset": "points", "config": {"steps": 1},
                "priority": chance.choice(PRIORITIES),
            }  # fmt: skip
            times.append(timed(server, "training_submit", request))
    return times


def timed(server: StdioServer, tool: str, arguments: Mapping[str, Any]) -> float:
    began = time.perf_counter()
    server.call(tool, arguments)
    return (time.perf_counter() - began) * 1000


def resident_mb(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


class Store:
    """The jobs table, read beside the hubs."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def counts(self) -> dict[str, int]:
        query = select(jobs.c.status, func.count()).group_by(jobs.c.status)
        return dict(self._read(lambda c: [tuple(row) for row in c.execute(query)]))

    def starts(self) -> list[Start]:
        first = (job_attempts.c.job_id == jobs.c.id) & (job_attempts.c.attempt == 1)
        query = select(jobs.c.created_at, job_attempts.c.started_at, jobs.c.priority)
        query = query.select_from(jobs.outerjoin(job_attempts, first))
        rows = self._read(lambda c: c.execute(query).all())
        return [
            Start(came / 1000, float("inf") if at is None else at / 1000, priority)
            for came, at, priority in rows
        ]

    def ids(self) -> list[str]:
        return list(self._read(lambda c: c.execute(select(jobs.c.id)).scalars().all()))

    def _read(self, work: Any) -> Any:
        async def read() -> Any:
            url = self._environment.get("MCP_HUB_DATABASE_URL")
            folder = Path(self._environment["MCP_HUB_DATA_DIR"])
            database = PostgresDatabase(url) if url else SqliteDatabase(folder / "hub.db")
            try:
                return await database.read(work)
            finally:
                await database.close()

        return asyncio.run(read())


def look_on(
    environment: Mapping[str, str], store: Store, done: threading.Event, seed: int
) -> dict[str, list[float]]:
    """Ask about random jobs, and for the list, until `done`; milliseconds by what was asked."""
    chance = random.Random(seed)
    times: dict[str, list[float]] = {"bare echo": [], "training_status": [], "training_list": []}
    lists = cycle([{}, {"status": "queued"}, {"status": "running"}, {"limit": 50}])
    with hub(environment) as server, StdioServer(BARE) as bare:
        bare.initialize()
        ids: list[str] = []
        while not done.wait(0.05):
            if len(times["training_status"]) % 100 == 0 or not ids:
                ids = store.ids()
            if ids:
                times["bare echo"].append(timed(bare, "echo", {"text": "x"}))
                job = {"job_id": chance.choice(ids)}
                times["training_status"].append(timed(server, "training_status", job))
                times["training_list"].append(timed(server, "training_list", next(lists)))
    return times


def clients(environment: Mapping[str, str], count: int) -> list[subprocess.Popen[str]]:
    """The processes that submit `count` jobs among them."""
    shares = [count // CLIENTS + (number < count % CLIENTS) for number in range(CLIENTS)]
    return [
        subprocess.Popen(
            [sys.executable, __file__, "--submit", str(share), "--seed", str(number)],
            env=dict(environment),
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, share in enumerate(shares)
    ]


def run(environment: Mapping[str, str], count: int, ended: int) -> dict[str, Any]:
    """Queue `count` jobs, run `ended` of them, and tell how it went."""
    with hub(environment) as server:
        points = {"name": "points", "content": POINTS, "format": "csv"}
        server.call("dataset_register", points)
    store, done = Store(environment), threading.Event()
    memory: list[tuple[int, float]] = []
    times: dict[str, list[float]] = {}
    worker = start(environment, "worker", log=Path(environment["MCP_HUB_DATA_DIR"]) / "worker.log")
    watch = threading.Thread(target=lambda: times.update(look_on(environment, store, done, seed=0)))
    began = time.monotonic()
    submitters = clients(environment, count)
    watch.start()
    try:
        submissions = [json.loads(client.communicate()[0]) for client in submitters]
        submitted_s = time.monotonic() - began
        while (over := _over(counts := store.counts())) < ended:
            memory.append((over, resident_mb(worker)))
            time.sleep(2)
            if worker.poll() is not None:
                raise RuntimeError("The worker has ended.")
        seconds = time.monotonic() - began
        memory.append((over, resident_mb(worker)))
    finally:
        done.set()
        watch.join()
        worker.terminate()
        worker.wait()
    starts = store.starts()
    return {
        "jobs": count,
        "states": counts,
        "submitted_s": submitted_s,
        "seconds": seconds,
        "started": sum(one.started < float("inf") for one in starts),
        "out_of_order": out_of_order(starts),
        "training_submit": figures([one for each in submissions for one in each]),
        **{tool: figures(values) for tool, values in times.items()},
        "worker_mb": by_quarter(memory, ended),
    }


def by_quarter(memory: Sequence[tuple[int, float]], ended: int) -> list[float]:
    """The median of what the worker held, in MB, while each quarter of the jobs ended."""
    quarters: list[list[float]] = [[], [], [], []]
    for over, mb in memory:
        quarters[min(3, 4 * over // ended)].append(mb)
    return [median(quarter) for quarter in quarters if quarter]


def _over(counts: Mapping[str, int]) -> int:
    return sum(jobs for status, jobs in counts.items() if status not in ("queued", "running"))


def figures(times: Sequence[float]) -> dict[str, float]:
    return {
        "calls": len(times),
        "p50_ms": median(times),
        "p95_ms": quantiles(times, n=20)[-1],
        "p99_ms": quantiles(times, n=100)[-1],
    }


def show(result: Mapping[str, Any]) -> None:
    ended = _over(result["states"])
    print(
        f"{result['jobs']} jobs submitted in {result['submitted_s']:.0f} s by {CLIENTS} clients; "
        f"{ended} ended in {result['seconds']:.0f} s ({ended / result['seconds']:.1f} a second): "
        f"{result['states']}"
    )
    print(f"  started out of order  {result['out_of_order']} of {result['started']}")
    for tool in ("training_submit", "training_status", "training_list", "bare echo"):
        times = result[tool]
        asked = tool in ("training_status", "training_list")
        limit = f"    (p95 at most {LIMIT_MS:.0f})" if asked else ""
        print(
            f"  {tool:<20}  p50 {times['p50_ms']:6.1f} ms  p95 {times['p95_ms']:6.1f} ms  "
            f"p99 {times['p99_ms']:6.1f} ms of {times['calls']}{limit}"
        )
    memory = ", ".join(f"{mb:.0f}" for mb in result["worker_mb"])
    print(f"  worker's memory       {memory} MB, in the median of each quarter of the jobs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--ended", type=int, help="stop when so many have ended; all by default")
    parser.add_argument("--servers", action="store_true", help="on PostgreSQL and Redis")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--submit", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.submit is not None:
        print(json.dumps(submit_all(dict(os.environ), options.submit, options.seed)))
        return
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, urls = Path(name), {}
        if options.servers:
            for key, begin in (
                ("MCP_HUB_DATABASE_URL", servers.start_postgres),
                ("MCP_HUB_REDIS_URL", servers.start_redis),
            ):
                where = stack.enter_context(tempfile.TemporaryDirectory(prefix="mcp-hub-jobs-"))
                server = begin(Path(where))
                stack.callback(server.stop)
                urls[key] = server.url
        environment = hub_environment(folder, **SETTINGS, **urls)
        result = run(environment, options.jobs, options.ended or options.jobs)
    print(json.dumps(result)) if options.json else show(result)


if __name__ == "__main__":
    main()
