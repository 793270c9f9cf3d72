"""What it means that a planted fault was found, and what a false alarm is. Fixed beforehand."""

from mcp_hub.services.telemetry.envelope import Kind

from .traffic import Day, Fault, FaultKind

SIGNALS: dict[FaultKind, tuple[set[str], set[Kind]]] = {
    "latency": ({"p50", "p95", "mean", "leak"}, {"span"}),
    "errors": ({"errors"}, {"span", "log"}),
    "template": ({"new"}, {"log"}),
    "silence": ({"silence", "rate"}, {"span", "log", "metric"}),
    "leak": ({"leak", "mean", "p50", "p95"}, {"metric"}),
}
BEFORE, AFTER = 10, 15
"""Minutes by which what a fault does may be told of too early or too late."""


def is_found(
    fault: Fault, service: str, signal: str, kind: str | None, start: float, stop: float
) -> bool:
    """Whether a finding is this fault: its service, a signal of it, and at a time it lasts.

    `start` and `stop` are minutes of the day; `kind` is None for a finding of a whole service.
    """
    signals, kinds = SIGNALS[fault.kind]
    return (
        service == fault.service
        and signal in signals
        and (kind is None or kind in kinds)
        and start < fault.end
        and stop > fault.start
    )


def is_false(day: Day, service: str, start: float, stop: float) -> bool:
    """Whether a finding is at no time, or of no service, that any fault is felt.

    A fault is felt by its service, but for a leak and a template by those that call it and those
    that call them, and in a silence by whom it calls.
    """
    return not any(
        start < fault.end + AFTER and stop > fault.start - BEFORE and service in _reach(day, fault)
        for fault in day.faults
    )


def _reach(day: Day, fault: Fault) -> set[str]:
    reach = {fault.service, "*"}
    if fault.kind in ("latency", "errors", "silence"):
        for _ in range(2):
            reach |= {caller for caller, callee in day.edges if callee in reach}
    if fault.kind == "silence":
        reach |= {callee for caller, callee in day.edges if caller == fault.service}
    return reach
