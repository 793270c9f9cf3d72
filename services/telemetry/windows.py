"""Spans of time as callers give them."""

import re
import time
from dataclasses import dataclass

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.telemetry.intake.accepting import parse_time

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"-?(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")


@dataclass(frozen=True, slots=True)
class Window:
    """From `since` (included) to `until` (not included), nanoseconds since the epoch."""

    since: int
    until: int

    @property
    def length(self) -> int:
        return self.until - self.since

    def before(self) -> "Window":
        """The window of the same length that ends where this one begins."""
        return Window(self.since - self.length, self.since)


def parse_duration(text: str, name: str = "duration") -> int:
    """The nanoseconds of `30s`, `5m`, `1h`, `7d` or `2w`.

    Raises:
        InvalidArgument: it is no such text.
    """
    found = _AGO.fullmatch(text.strip())
    if found is None or text.strip().startswith("-"):
        raise InvalidArgument(f"{name} is {text!r}.", "Write it like 30s, 5m, 1h, 7d or 2w.")
    return round(float(found[1]) * _UNITS[found[2]] * 10**9)


def parse_window(
    since: str | float | None, until: str | float | None, default: str = "1h"
) -> Window:
    """The window from `since` to `until`: ISO 8601, a number since 1970, or so long ago (`-15m`).

    `until` is now if left out, `since` is `default` before `until`.

    Raises:
        InvalidArgument: one is no time, or the window is empty.
    """
    now = time.time_ns()
    end = now if until is None else _instant("until", until, now)
    begin = end - parse_duration(default) if since is None else _instant("since", since, now)
    if begin >= end:
        raise InvalidArgument("since is not before until.", "Give since as the earlier time.")
    return Window(begin, end)


def parse_instant(name: str, value: str | float) -> int:
    """Nanoseconds since the epoch, from what `parse_window` takes.

    Raises:
        InvalidArgument: it is no time.
    """
    return _instant(name, value, time.time_ns())


def _instant(name: str, value: str | float, now: int) -> int:
    if isinstance(value, str):
        text = value.strip()
        if text == "now":
            return now
        found = _AGO.fullmatch(text)
        if found:
            return now - round(float(found[1]) * _UNITS[found[2]] * 10**9)
    try:
        return parse_time(value)
    except ValueError:
        raise InvalidArgument(
            f"{name} is {value!r}.", "Write -15m, -2h, -7d, or 2026-01-31T12:00:00Z."
        ) from None
