"""A day of a small system's telemetry with planted faults, from a seed.

Several services call each other. Arrivals are Poisson around a load that all share: a daily
season of a random shape, slow correlated noise, bursts and, on some days, a dip for maintenance.
Single services have bursts of their own. Latencies are lognormal, drift, and grow with the load;
a callee's latencies and errors are felt by its callers. Logs have templates, of which some are
seen for the first time without meaning anything. Deployments happen without consequence, and some
faults begin with one.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mcp_hub.services.telemetry.envelope import Kind, Record
from mcp_hub.services.telemetry.intake.accepting import make_record

MINUTE_NS = 60 * 10**9
Float = NDArray[np.float64]

FaultKind = Literal["latency", "errors", "template", "silence", "leak"]
FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)

_SERVICES = (
    "frontend", "catalog", "checkout", "payments", "inventory", "search", "mailer", "accounts",
)  # fmt: skip
_TEMPLATES = (
    "request {n} served from cache in {n} ms",
    "session {h} opened for user {n}",
    "flushed {n} rows to shard {n}",
    "retrying upstream, attempt {n}",
    "queue depth is {n}",
    "config reloaded from /etc/{w}/{w}.toml",
)
_NEW_TEMPLATES = (
    "circuit breaker for ledger opened after {n} failures",
    "certificate of peer {n} does not match its name",
    "schema mismatch: column total_cents missing in batch {h}",
    "deadlock detected while locking order {n}",
    "token signature rejected by issuer {n}",
)
_RARE = (
    "rotating the signing key, generation {n}", "vacuum finished after {n} s",
    "index {h} rebuilt", "leader changed to node {n}", "certificate renewed for {n} days",
    "compaction of level {n} skipped", "backup {h} uploaded", "clock adjusted by {n} ms",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """What was planted: `service` is where, minutes of the day when; `deployed` whether by one."""

    kind: FaultKind
    service: str
    start: int
    end: int
    deployed: bool
    text: str = ""


@dataclass
class Stream:
    """The records of one series; arrays [n], times in ns since the epoch."""

    kind: Kind
    name: str
    service: str
    unit: str | None
    times: NDArray[np.int64]
    measures: Float | None
    severities: NDArray[np.int64] | None
    templates: NDArray[np.int64] | None = None
    texts: tuple[str, ...] = ()


@dataclass
class Day:
    """`minutes` from `first_minute` (since the epoch) on; `edges` are (caller, callee)."""

    seed: int
    first_minute: int
    minutes: int
    streams: list[Stream]
    faults: list[Fault]
    edges: list[tuple[str, str]]
    rng: np.random.Generator = field(repr=False)

    def at(self, minute: float) -> int:
        """Nanoseconds since the epoch of a minute of the day."""
        return int((self.first_minute + minute) * MINUTE_NS)


def make_day(
    seed: int,
    *,
    first_minute: int,
    minutes: int = 1440,
    faults: tuple[FaultKind, ...] = FAULTS,
    size: float = 1.0,
    rate: float = 1.0,
) -> Day:
    """A day by its seed. `size` scales the planted effects, `rate` all arrivals."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(4, len(_SERVICES) + 1))
    services = _SERVICES[:count]
    # Each service but the first is called by one or two that come before it.
    edges = [
        (services[caller], services[callee])
        for callee in range(1, count)
        for caller in rng.choice(callee, size=min(callee, int(rng.integers(1, 3))), replace=False)
    ]
    planted = _plant(rng, services, edges, minutes, faults)
    system = _System(rng, services, edges, first_minute, minutes, planted, size, rate)
    return Day(seed, first_minute, minutes, system.streams(), planted, edges, rng)


def _plant(
    rng: np.random.Generator,
    services: tuple[str, ...],
    edges: list[tuple[str, str]],
    minutes: int,
    kinds: tuple[FaultKind, ...],
) -> list[Fault]:
    """One fault of each kind; but for the leak, which is long, none near another in time."""
    planted: list[Fault] = []
    free = np.ones(minutes, bool)
    free[:180] = False
    for kind in kinds:
        if kind == "leak":
            length = int(rng.integers(240, 480))
            start = int(rng.integers(180, minutes - length))
        else:
            length = int(rng.integers(15, 61))
            places = np.flatnonzero(np.convolve(free, np.ones(length + 60), "valid") == length + 60)
            start = int(rng.choice(places)) + 30
            free[max(0, start - 45) : start + length + 45] = False
        called = sorted({callee for _, callee in edges})
        service = str(rng.choice(called if rng.random() < 0.7 else list(services)))
        deployed = kind != "silence" and bool(rng.random() < 0.5)
        text = str(rng.choice(_NEW_TEMPLATES)) if kind == "template" else ""
        planted.append(Fault(kind, service, start, start + length, deployed, text))
    return planted


class _System:
    def __init__(
        self,
        rng: np.random.Generator,
        services: tuple[str, ...],
        edges: list[tuple[str, str]],
        first_minute: int,
        minutes: int,
        faults: list[Fault],
        size: float,
        rate: float,
    ) -> None:
        self.rng, self.services, self.edges, self.faults = rng, services, edges, faults
        self.first, self.minutes, self.size = first_minute, minutes, size
        self.clock = np.arange(minutes)
        self.load = self._shared_load()
        self.rates = {s: rate * float(rng.uniform(4, 40)) for s in services}
        self.arrivals = {s: self._arrivals(s) for s in services}
        self.slower = {s: np.zeros(minutes) for s in services}
        self.failing = {s: np.zeros(minutes) for s in services}
        self._apply_faults()

    def window(self, fault: Fault) -> NDArray[np.bool_]:
        return (self.clock >= fault.start) & (self.clock < fault.end)

    def _ar(self, sd: float, memory: float = 0.95) -> Float:
        noise = self.rng.normal(0, sd * np.sqrt(1 - memory**2), self.minutes)
        value, out = 0.0, np.empty(self.minutes)
        for minute, step in enumerate(noise):
            value = memory * value + step
            out[minute] = value
        return out

    def _shared_load(self) -> Float:
        rng = self.rng
        hours = (self.clock / 60 + float(rng.uniform(0, 24))) % 24
        depth = float(rng.uniform(0.3, 0.7))
        if rng.random() < 0.5:
            shape = 1 + depth * np.sin(2 * np.pi * hours / 24)
        else:  # office hours, with soft edges and a lunch
            rise, fall = 1 / (1 + np.exp(-(hours - 8))), 1 / (1 + np.exp(-(hours - 18)))
            shape = (1 - depth) + 2 * depth * (rise - fall)
            shape -= 0.15 * depth * np.exp(-((hours - 12.5) ** 2))
        load = shape * np.exp(self._ar(0.06))
        for _ in range(int(rng.integers(1, 5))):
            start, length = int(rng.integers(0, self.minutes)), int(rng.integers(2, 9))
            load[start : start + length] *= float(rng.uniform(1.2, 2.0))
        if rng.random() < 0.5:
            start, length = int(rng.integers(0, self.minutes)), int(rng.integers(10, 25))
            load[start : start + length] *= float(rng.uniform(0.4, 0.7))
        return np.asarray(load)

    def _arrivals(self, service: str) -> Float:
        own = self.load * np.exp(self._ar(0.05)) * self.rates[service]
        for _ in range(int(self.rng.integers(0, 3))):
            start, length = int(self.rng.integers(0, self.minutes)), int(self.rng.integers(1, 5))
            own[start : start + length] *= float(self.rng.uniform(1.2, 2.5))
        return np.asarray(own)

    def _apply_faults(self) -> None:
        for fault in self.faults:
            window, grown = self.window(fault), 0.0
            if fault.kind == "latency":
                grown = np.log(1 + self.size * float(self.rng.uniform(0.8, 2.0)))
                self.slower[fault.service][window] += grown
            elif fault.kind == "errors":
                grown = self.size * float(self.rng.uniform(0.1, 0.4))
                self.failing[fault.service][window] += grown
            elif fault.kind == "silence":
                self.arrivals[fault.service][window] = 0.0
            for caller, share in self._callers(fault.service):
                if fault.kind == "latency":
                    self.slower[caller][window] += np.log(1 + share * (np.exp(grown) - 1))
                elif fault.kind == "errors":
                    self.failing[caller][window] += share * grown
                elif fault.kind == "silence":
                    self.failing[caller][window] += share * 0.3
            if fault.kind == "silence":
                for caller, callee in self.edges:
                    if caller == fault.service:
                        self.arrivals[callee][window] *= float(self.rng.uniform(0.5, 0.9))

    def _callers(self, service: str) -> list[tuple[str, float]]:
        """Who feels a fault of `service`, and how much of it: callers, and theirs by half."""
        direct = {caller for caller, callee in self.edges if callee == service}
        felt = {caller: float(self.rng.uniform(0.3, 0.7)) for caller in sorted(direct)}
        for caller, callee in self.edges:
            if callee in direct:
                felt.setdefault(caller, float(self.rng.uniform(0.1, 0.3)))
        return list(felt.items())

    def streams(self) -> list[Stream]:
        made = []
        for service in self.services:
            made += [self._spans(service), self._logs(service), *self._gauges(service)]
        made += self._deployments()
        return made

    def _times(self, arrivals: Float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Times in order, and the minute of the day of each."""
        counts = self.rng.poisson(np.maximum(arrivals, 0))
        minute = np.repeat(self.clock, counts)
        offset = self.rng.uniform(0, 1, len(minute))
        times = ((self.first + minute + offset) * MINUTE_NS).astype(np.int64)
        order = np.argsort(times, kind="stable")
        return times[order], minute[order]

    def _spans(self, service: str) -> Stream:
        rng = self.rng
        times, minute = self._times(self.arrivals[service])
        sigma, median = float(rng.uniform(0.3, 0.8)), float(np.exp(rng.uniform(1, 5)))
        level = self.slower[service] + 0.15 * (self.load - 1) + self._ar(0.03)
        duration = median * 1e6 * np.exp(level[minute] + rng.normal(0, sigma, len(times)))
        chance = float(np.exp(rng.uniform(np.log(0.001), np.log(0.02)))) + self.failing[service]
        failed = rng.random(len(times)) < chance[minute]
        return Stream(
            "span", f"{service}.handle", service, "ns", times, np.floor(duration),
            np.where(failed, 17, 9),
        )  # fmt: skip

    def _logs(self, service: str) -> Stream:
        rng = self.rng
        texts = [t.replace("{w}", service) for t in _TEMPLATES]
        times, minute = self._times(self.arrivals[service] * float(rng.uniform(0.3, 1.0)))
        weights = rng.dirichlet(np.full(len(texts), 0.7))
        templates = rng.choice(len(texts), size=len(times), p=weights)
        severities = np.where(rng.random(len(times)) < 0.01, 13, 9)
        failed = rng.random(len(times)) < self.failing[service][minute]
        severities[failed] = 17
        more: list[tuple[str, Float, int]] = [
            (str(text), np.array([float(rng.integers(0, self.minutes))]), 9)
            for text in rng.choice(_RARE, size=2, replace=False)
        ]
        for fault in self.faults:
            if fault.kind == "template" and fault.service == service:
                often = max(0.5, 0.15 * self.rates[service]) * self.size
                size = max(3, int(rng.poisson(often * (fault.end - fault.start))))
                more.append((fault.text, rng.uniform(fault.start, fault.end, size), 13))
        for text, when, severity in more:
            texts.append(text)
            times = np.append(times, ((self.first + when) * MINUTE_NS).astype(np.int64))
            templates = np.append(templates, np.full(len(when), len(texts) - 1))
            severities = np.append(severities, np.full(len(when), severity))
        order = np.argsort(times, kind="stable")
        return Stream(
            "log", "app", service, None, times[order], None, severities[order],
            templates[order], tuple(texts),
        )  # fmt: skip

    def _gauges(self, service: str) -> list[Stream]:
        rng = self.rng
        alive = np.ones(self.minutes, bool)
        for fault in self.faults:
            if fault.kind == "silence" and fault.service == service:
                alive &= ~self.window(fault)
        clock = self.clock[alive]
        times = ((self.first + clock + rng.uniform(0, 0.2, len(clock))) * MINUTE_NS).astype(
            np.int64
        )
        memory = float(rng.uniform(200, 2000)) * np.exp(
            0.05 * (self.load - 1) + self._ar(0.01, 0.9) + rng.normal(0, 0.01, self.minutes)
        )
        for fault in self.faults:
            if fault.kind == "leak" and fault.service == service:
                ramp = np.clip((self.clock - fault.start) / (fault.end - fault.start), 0, 1)
                ramp[self.clock >= fault.end] = 0  # it is restarted then
                memory *= 1 + self.size * float(rng.uniform(0.4, 1.2)) * ramp
        cpu = 30 * self.load * np.exp(self._ar(0.1, 0.8) + rng.normal(0, 0.05, self.minutes))
        return [
            Stream("metric", "memory_mb", service, "MB", times, memory[alive], None),
            Stream("metric", "cpu_percent", service, "%", times, np.minimum(cpu, 100)[alive], None),
        ]

    def _deployments(self) -> list[Stream]:
        rng = self.rng
        when = [
            (str(rng.choice(self.services)), float(rng.uniform(0, self.minutes)))
            for _ in range(int(rng.integers(2, 7)))
        ]
        when += [
            (fault.service, fault.start - float(rng.uniform(0.2, 3)))
            for fault in self.faults
            if fault.deployed
        ]
        return [
            Stream(
                "event", "deployment", service, None,
                np.sort([int((self.first + m) * MINUTE_NS) for s, m in when if s == service]),
                None, None,
            )
            for service in sorted({service for service, _ in when})
        ]  # fmt: skip


def records_of(day: Day) -> list[Record]:
    """The day's records in the order of time, as senders would make them."""
    made = []
    for stream in day.streams:
        for place, time in enumerate(stream.times.tolist()):
            measure = None if stream.measures is None else float(stream.measures[place])
            severity = None if stream.severities is None else int(stream.severities[place])
            rest: dict[str, Any] = {}
            if stream.templates is not None:
                rest["body"] = filled(stream.texts[stream.templates[place]], place)
            if stream.kind == "span":
                rest |= {"duration_ns": int(measure or 0), "span_id": place.to_bytes(8, "big")}
            elif measure is not None:
                rest["value"] = measure
            made.append(
                make_record(
                    stream.kind,
                    stream.name,
                    time,
                    service=stream.service,
                    severity=severity,
                    unit=stream.unit,
                    **rest,
                )
            )
    return sorted(made, key=lambda record: record.time)


def filled(template: str, number: int) -> str:
    """A body of a template: its variables are numbers and hexadecimal ids."""
    return template.replace("{n}", str(number * 7 % 9973)).replace("{h}", f"{number:08x}")


def spans_of_traces(day: Day, since: float, until: float, count: int) -> list[Record]:
    """Some whole traces between two minutes of the day, which show who calls whom."""
    made = []
    for trace in range(count):
        trace_id = day.rng.bytes(16)
        time = day.at(float(day.rng.uniform(since, until)))
        ids: dict[str, bytes] = {}
        for _, service in [("", day.edges[0][0]), *day.edges]:
            ids.setdefault(service, (trace * 64 + len(ids) + 1).to_bytes(8, "big"))
        parents = {callee: caller for caller, callee in day.edges}
        for edge in day.edges if trace % 2 else day.edges[::-1]:
            parents[edge[1]] = edge[0]
        for service, span_id in ids.items():
            made.append(
                make_record(
                    "span",
                    f"{service}.handle",
                    time,
                    service=service,
                    trace_id=trace_id,
                    span_id=span_id,
                    parent_id=ids.get(parents.get(service, "")),
                    duration_ns=1_000_000,
                )
            )
    return made
