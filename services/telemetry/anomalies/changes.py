"""What was done to systems, as records and the hub tell of it, and who calls whom."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from mcp_hub.adapters.database.schema import promotions
from mcp_hub.adapters.database.telemetry_schema import telemetry_records, telemetry_series
from mcp_hub.services.telemetry.anomalies.findings import shown
from mcp_hub.services.telemetry.envelope import HUB_SERVICE
from mcp_hub.services.telemetry.intake.rollups import MINUTE_NS

_MAX_EVENTS = 200
_MAX_SPANS = 20_000
_NAMES = 5_000
_SAYS = re.compile(
    r"deploy|release|promot|config|flag|rollout|rollback|roll_back|migrat|restart|upgrade|scal(?:e|ing)",
    re.IGNORECASE,
)
_TARGETS = ("service", "service.name", "service_name", "target", "target.service", "app")


@dataclass(frozen=True, slots=True)
class Change:
    """Something that someone did to a service, at a minute of the epoch."""

    name: str
    service: str
    minute: float
    says: str


@dataclass(frozen=True, slots=True)
class Calls:
    """Who calls whom: for each caller its callees, with how many calls were seen."""

    callees: dict[str, dict[str, int]]

    def reach(self, service: str) -> dict[str, int]:
        """What a service depends on, and over how many calls."""
        found, edge, distance = {service: 0}, [service], 0
        while edge:
            distance += 1
            edge = [
                callee for caller in edge for callee in self.callees.get(caller, {})
                if callee not in found
            ]  # fmt: skip
            found.update(dict.fromkeys(edge, distance))
        del found[service]
        return found


def read_changes(connection: Connection, since: int, until: int) -> list[Change]:
    """The deployments, promotions and the like of the time from `since` to `until` (ns).

    They are events whose names say so, and the hub's own promotions.
    """
    table, records = telemetry_series.c, telemetry_records.c
    named = connection.execute(
        select(table.series, table.name, table.service)
        .where(table.kind == "event")
        .order_by(table.series)
        .limit(_NAMES)
    )
    series = {row.series: row for row in named if _SAYS.search(row.name)}
    found = []
    if series:
        statement = (
            select(records.time, records.series, records.body, records.attributes)
            .where(
                records.series.in_(series), records.time >= since, records.time < until
            )
            .order_by(records.time.desc())
            .limit(_MAX_EVENTS)
        )  # fmt: skip
        for time, number, body, attributes in connection.execute(statement):
            row = series[number]
            details = attributes if isinstance(attributes, dict) else _parsed(attributes)
            service = _target(details) or row.service
            what = shown(body, 100) if body else _shown_details(details)
            says = f"{row.name} of {service}" + (f": {what}" if what else "")
            found.append(Change(row.name, service, time / MINUTE_NS, says))
    found += _promotions(connection, since, until)
    return found


def read_spans(connection: Connection, since: int, at: int, until: int) -> list[Any]:
    """Spans of the time around `at` (ns): (trace, span, parent, service), the nearest."""
    table = telemetry_records.c
    columns = [table.trace_id, table.span_id, table.parent_id, telemetry_series.c.service]
    spans = (
        select(*columns)
        .join(telemetry_series, telemetry_series.c.series == table.series)
        .where(table.span_id.is_not(None), table.trace_id.is_not(None))
        .limit(_MAX_SPANS // 2)
    )
    before = spans.where(table.time >= since, table.time < at).order_by(table.time.desc())
    after = spans.where(table.time >= at, table.time < until).order_by(table.time)
    return [*connection.execute(before), *connection.execute(after)]


def calls_of(spans: list[Any]) -> Calls:
    """The calls between different services in spans (trace, span, parent, service)."""
    owners = {(bytes(trace), bytes(span)): service for trace, span, _, service in spans}
    seen: Counter[tuple[str, str]] = Counter()
    for trace, _, parent, service in spans:
        caller = owners.get((bytes(trace), bytes(parent))) if parent is not None else None
        if caller is not None and caller != service:
            seen[caller, service] += 1
    callees: dict[str, dict[str, int]] = {}
    for (caller, callee), count in seen.items():
        callees.setdefault(caller, {})[callee] = count
    return Calls(callees)


def _promotions(connection: Connection, since: int, until: int) -> list[Change]:
    table = promotions.c
    rows = connection.execute(
        select(table.name, table.alias, table.version, table.previous, table.decided_at)
        .where(
            table.promoted,
            table.decided_at >= since // 10**6,
            table.decided_at < until // 10**6,
        )
        .order_by(table.decided_at.desc())
        .limit(_MAX_EVENTS)
    )
    found = []
    for name, alias, version, previous, decided_at in rows:
        instead = f", before {previous}" if previous is not None else ""
        says = f"model {name} version {version} was promoted to {alias}{instead}"
        found.append(Change("promotion", HUB_SERVICE, decided_at / 60_000, says))
    return found


def _parsed(text: str) -> dict[str, Any]:
    value = msgspec.json.decode(text)
    return value if isinstance(value, dict) else {}


def _target(details: dict[str, Any]) -> str | None:
    values = (details.get(key) for key in _TARGETS)
    return next((value for value in values if isinstance(value, str) and value), None)


def _shown_details(details: dict[str, Any]) -> str:
    return shown(", ".join(f"{key}={value}" for key, value in list(details.items())[:5]), 100)
