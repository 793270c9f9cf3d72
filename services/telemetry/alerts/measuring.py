"""The aggregate of a rule: now, and in the windows before."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mcp_hub.services.telemetry.aggregates.aggregate import Aggregate
from mcp_hub.services.telemetry.aggregates.aggregating import Aggregating
from mcp_hub.services.telemetry.alerts.rules import MINUTE_NS, Rule, is_broken

WINDOWS_BEFORE = 24
"""An anomaly is judged by so many windows of the same length before."""

_OF_NOTHING = {"count": 0.0, "rate": 0.0, "errors": 0.0, "sum": 0.0}
"""What measures are of no records; the others are then unknown."""


class Measuring:
    """Asks what rules ask."""

    def __init__(self, aggregating: Aggregating) -> None:
        self._aggregating = aggregating

    async def now(self, rule: Rule, now: int) -> tuple[float | None, bool]:
        """A rule's value in the window until `now` (ns), and whether it is a reason to alert.

        Raises:
            InvalidArgument: what it asks for is not there, such as an attribute.
        """
        table = await self._ask(rule, now - rule.window_ns, now)
        value = _number(table[0][-1]) if table else _of_nothing(rule)
        before = [] if rule.deviations is None else await self.before(rule, now, WINDOWS_BEFORE)
        return value, is_broken(rule, value, before)

    async def before(self, rule: Rule, now: int, count: int) -> list[float | None]:
        """A rule's value in the last `count` windows that were over before its window until `now`.

        They begin at multiples of their length. Those before the first that holds a record are
        unknown: nothing may have been recorded yet. Raises as `now`.
        """
        width = rule.window_ns
        until = (now - width) // width * width
        since = until - count * width
        found = {
            _minute(row[0]): _number(row[-1])
            for row in await self._ask(rule, since, until, bucket=rule.window)
        }
        starts = [start // MINUTE_NS for start in range(since, until, width)]
        first = min(found, default=starts[-1] + 1)
        return [found.get(start, _of_nothing(rule) if start > first else None) for start in starts]

    async def _ask(
        self, rule: Rule, since: int, until: int, bucket: str | None = None
    ) -> Sequence[Sequence[Any]]:
        asked = Aggregate(
            measure=[rule.measure],
            kind=rule.kind,
            name=rule.name,
            service=rule.service,
            where=rule.where,
            bucket=bucket,
            since=since,
            until=until,
        )
        return (await self._aggregating.aggregate(asked)).rows


def _of_nothing(rule: Rule) -> float | None:
    return _OF_NOTHING.get(rule.measure.partition(":")[0])


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _minute(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) // 60
