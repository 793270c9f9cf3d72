"""When a schedule is due."""

from datetime import UTC, datetime
from difflib import get_close_matches
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from mcp_hub.adapters.errors import InvalidArgument

SHORTEST_S, LONGEST_S = 1, 366 * 24 * 3600


class Timing(NamedTuple):
    """Every `every_ms` milliseconds, or by the clock of `timezone` as `cron` says."""

    cron: str | None
    every_ms: int | None
    timezone: str

    def next_after(self, now_ms: int, due_ms: int) -> int:
        """The first time after now, in ms since the epoch, of a schedule that was due before.

        Raises:
            InvalidArgument: the cron expression names no day that comes.
        """
        if self.every_ms is not None:
            return due_ms + self.every_ms * max(1, (now_ms - due_ms) // self.every_ms + 1)
        assert self.cron is not None
        now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(ZoneInfo(self.timezone))
        try:
            return int(next(CronSim(self.cron, now)).timestamp() * 1000)
        except StopIteration:
            raise InvalidArgument(f"cron {self.cron!r} names a day that never comes.") from None

    def __str__(self) -> str:
        if self.every_ms is not None:
            return f"every {self.every_ms / 1000:g} s"
        return f"{self.cron} ({self.timezone})"


def timing_of(cron: str | None, every_s: float | None, timezone: str) -> Timing:
    """The timing that is asked for.

    Raises:
        InvalidArgument: it is none; says what would be right.
    """
    right = "Give cron, such as '0 3 * * 1-5', or every_s, such as 3600."
    if (cron is None) == (every_s is None):
        given = "both are" if cron is not None else "neither is"
        raise InvalidArgument(f"A schedule has cron or every_s; {given} given.", right)
    if every_s is not None and not SHORTEST_S <= every_s <= LONGEST_S:
        raise InvalidArgument(
            f"every_s is {every_s:g}; it must be from {SHORTEST_S} to {LONGEST_S} (a year)."
        )
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidArgument(
            f"There is no time zone {timezone[:80]!r}.", _zone_hint(timezone)
        ) from None
    if cron is not None:
        try:
            CronSim(cron, datetime.now(zone))
        except CronSimError as error:
            raise InvalidArgument(
                f"cron is {cron[:80]!r}: {error}.",
                "It has five fields: minute, hour, day of month, month, day of week.",
            ) from None
    return Timing(cron, None if every_s is None else round(every_s * 1000), timezone)


def _zone_hint(timezone: str) -> str:
    close = get_close_matches(timezone, available_timezones(), n=3)
    return f"Did you mean {' or '.join(close)}?" if close else "Such as UTC or Europe/Berlin."
