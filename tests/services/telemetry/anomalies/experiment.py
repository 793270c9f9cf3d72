"""One seed of the experiment with planted faults: what is found, and what is told as its cause."""

import time
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from anyio import to_thread

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.records.port import RecordStore
from mcp_hub.services.telemetry.anomalies.anomalies import LIMITS, AnomalyFinder
from mcp_hub.services.telemetry.anomalies.anomaly_views import LikelyCause
from mcp_hub.services.telemetry.anomalies.correlating import Correlator
from mcp_hub.services.telemetry.anomalies.findings import Finding, grouped
from mcp_hub.services.telemetry.anomalies.minutes import Selection
from mcp_hub.services.telemetry.envelope import Record
from mcp_hub.services.telemetry.windows import Window

from .scoring import SIGNALS, is_false, is_found
from .stored_traffic import store_day
from .traffic import Day, Fault, FaultKind, make_day, spans_of_traces

FIRST_MINUTE = 29_000_000


@dataclass
class FaultOutcome:
    """`delay` is minutes from the fault's begin to that of the finding, `rank` from 1."""

    found: bool
    delay: float | None
    rank: int | None = None


@dataclass
class Outcome:
    seed: int
    faults: dict[FaultKind, FaultOutcome] = field(default_factory=dict)
    false_alarms: int = 0
    false_alarms_quiet: int = 0
    seconds: float = 0.0


@dataclass
class Question:
    fault: Fault
    minute: float
    service: str | None


async def run_seed(
    database: Database,
    store: RecordStore,
    finder: AnomalyFinder,
    correlator: Correlator,
    seed: int,
    *,
    size: float = 1.0,
    rate: float = 1.0,
) -> Outcome:
    """Plant, ask and judge, in an empty database."""
    outcome = Outcome(seed)
    make = partial(make_day, seed, first_minute=FIRST_MINUTE, size=size, rate=rate)
    day = await to_thread.run_sync(make)
    questions = _questions(day)
    traces = await to_thread.run_sync(_traces, day, questions)
    await database.write(lambda connection: store_day(connection, store, day, traces))
    began = time.perf_counter()
    findings = await _findings(finder, day)
    outcome.seconds = time.perf_counter() - began
    outcome.false_alarms = _false_alarms(day, findings)
    for question in questions:
        fault = question.fault
        result = _found(day, fault, findings)
        correlation = await correlator.correlate(
            day.at(question.minute) / 1e9, service=question.service, limit=20
        )
        result.rank = next(
            (rank for rank, cause in enumerate(correlation.causes, 1) if _is_cause(fault, cause)),
            None,
        )
        outcome.faults[fault.kind] = result
    return outcome


async def run_quiet(
    database: Database, store: RecordStore, finder: AnomalyFinder, seed: int, *, rate: float = 1.0
) -> int:
    """How many false alarms the day of a seed has if no fault is planted, in an empty database."""
    make = partial(make_day, seed, first_minute=FIRST_MINUTE, faults=(), rate=rate)
    day = await to_thread.run_sync(make)
    await database.write(lambda connection: store_day(connection, store, day, []))
    return _false_alarms(day, await _findings(finder, day))


def _questions(day: Day) -> list[Question]:
    """When each fault is noticed, and in which service: one that calls the faulty one, or none."""
    rng = np.random.default_rng(day.seed + 5000)
    questions = []
    for fault in day.faults:
        noticed = fault.start + float(rng.uniform(2, 12))
        if fault.kind == "leak":
            noticed = fault.start + float(rng.uniform(0.7, 1)) * (fault.end - fault.start)
        callers = [caller for caller, callee in day.edges if callee == fault.service]
        is_felt = fault.kind in ("latency", "errors", "silence")
        asked = is_felt and callers and rng.random() < 0.5
        questions.append(Question(fault, noticed, str(rng.choice(callers)) if asked else None))
    return questions


def _traces(day: Day, questions: list[Question]) -> list[Record]:
    return [
        span
        for question in questions
        for span in spans_of_traces(day, question.minute - 10, question.minute + 10, 30)
    ]


async def _findings(finder: AnomalyFinder, day: Day) -> list[Finding]:
    window = Window(day.at(0), day.at(day.minutes))
    examined = await finder.examine(Selection(), window, LIMITS["normal"])
    return await to_thread.run_sync(grouped, examined.findings)


def _false_alarms(day: Day, findings: list[Finding]) -> int:
    first = day.first_minute
    return sum(is_false(day, one.service, one.start - first, one.stop - first) for one in findings)


def _found(day: Day, fault: Fault, findings: list[Finding]) -> FaultOutcome:
    first = day.first_minute
    starts = [
        one.start - first
        for top in findings
        for one in (top, *top.also)
        if is_found(
            fault, one.service, one.signal, one.series.kind if one.series else None,
            one.start - first, one.stop - first,
        )
    ]  # fmt: skip
    return FaultOutcome(bool(starts), min(starts) - fault.start if starts else None)


def _is_cause(fault: Fault, cause: LikelyCause) -> bool:
    """A leak's deployment is hours ago when it is noticed: its cause is then the leak itself."""
    if cause.service != fault.service:
        return False
    if fault.deployed and fault.kind != "leak":
        return cause.what == "deployment"
    return cause.what in SIGNALS[fault.kind][0]
