"""A day of telemetry as services make it: spans in traces, logs and metrics, busier by day."""

import math
import random
from collections.abc import Iterator

from mcp_hub.services.telemetry.envelope import Record, new_id
from mcp_hub.services.telemetry.intake.accepting import Batch

DAY_NS = 24 * 3600 * 10**9
SERVICES = [
    "gateway", "checkout", "catalog", "search", "users", "payments", "shipping", "mail",
]  # fmt: skip
SPANS = [
    "GET /items", "GET /items/{id}", "POST /orders", "GET /orders/{id}", "GET /search", "auth",
    "db.select", "db.insert", "db.update", "cache.get", "cache.set", "http.client", "queue.publish",
    "queue.consume",
]  # fmt: skip
LOGS = ["http", "orm", "scheduler", "worker", "auth.audit", "retry"]
METRICS = ["cpu.load", "memory.used", "queue.depth", "requests.active", "gc.pause"]
REGIONS = ["eu-west", "eu-north", "us-east", "us-west", "ap-south"]
_PER_TRACE = 6
_BATCH = 5_000


def batches(records: int, end_ns: int, seed: int = 1) -> Iterator[Batch]:
    """The day before `end_ns` in batches, oldest first."""
    rng = random.Random(seed)
    resources = [
        {"service.version": f"1.{n % 4}.0", "host.name": f"node-{n:02}"} for n in range(24)
    ]
    batch: list[Record] = []
    for moment in _moments(records // _PER_TRACE, end_ns, rng):
        batch += _moment(moment, rng, resources)
        if len(batch) >= _BATCH:
            yield Batch(batch, list(range(len(batch))))
            batch = []
    if batch:
        yield Batch(batch, list(range(len(batch))))


def _moments(count: int, end_ns: int, rng: random.Random) -> Iterator[int]:
    """Times over the day, three times as dense at noon as at midnight."""
    steps = [1 - 0.5 * math.cos(2 * math.pi * n / 1440) for n in range(1440)]
    total, due = sum(steps), 0.0
    for minute, weight in enumerate(steps):
        due += weight / total * count
        whole, due = int(due), due - int(due)
        start = end_ns - DAY_NS + minute * 60 * 10**9
        yield from (start + offset for offset in sorted(rng.sample(range(60 * 10**9), whole)))


def _moment(moment: int, rng: random.Random, resources: list[dict[str, str]]) -> list[Record]:
    """What one request leaves: spans of a trace, a log line and a metric."""
    trace, parent = rng.randbytes(16), None
    user, region = f"user-{rng.randrange(50_000)}", rng.choice(REGIONS)
    found = []
    for _ in range(_PER_TRACE - 2):
        moment += rng.randrange(2_000_000)
        span = rng.randbytes(8)
        failed = rng.random() < 0.02
        found.append(
            Record(
                id=new_id(moment), kind="span", name=rng.choice(SPANS), time=moment,
                service=rng.choice(SERVICES), severity=17 if failed else None, trace_id=trace,
                span_id=span, parent_id=parent, duration_ns=int(rng.lognormvariate(16, 1.2)),
                attributes={
                    "http.route": f"/api/v1/resource/{rng.randrange(60)}",
                    "http.status": 500 if failed else rng.choice((200, 200, 200, 201, 304, 404)),
                    "user.id": user, "region": region,
                    "bytes": int(rng.lognormvariate(8, 1.5)),
                },
                resource=rng.choice(resources),
            )
        )  # fmt: skip
        parent = span
    level = rng.choices((5, 9, 13, 17), (20, 70, 8, 2))[0]
    found.append(
        Record(
            id=new_id(moment), kind="log", name=rng.choice(LOGS), time=moment,
            service=rng.choice(SERVICES), severity=level, trace_id=trace, span_id=parent,
            body=f"request {rng.randrange(10**9)} of {user} took {rng.randrange(900)} ms",
            attributes={"region": region, "pod": f"pod-{rng.randrange(96)}", "user.id": user},
            resource=rng.choice(resources),
        )
    )  # fmt: skip
    name = rng.choice(METRICS)
    found.append(
        Record(
            id=new_id(moment), kind="metric", name=name, time=moment, unit="1",
            service=rng.choice(SERVICES), value=rng.gammavariate(2, METRICS.index(name) + 1),
            attributes={"host": f"host-{rng.randrange(120)}"}, resource=rng.choice(resources),
        )
    )  # fmt: skip
    return found
