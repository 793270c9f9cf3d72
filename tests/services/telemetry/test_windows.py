import time

import pytest

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.telemetry.windows import Window, parse_duration, parse_window

MINUTE = 60 * 10**9
TIME = 1_790_000_000 * 10**9


@pytest.mark.parametrize(
    ("text", "expected"), [("30s", 30 * 10**9), ("1.5m", 90 * 10**9), ("2w", 14 * 1440 * MINUTE)]
)
def test_durations(text: str, expected: int) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "-5m", "5 years", "m"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="window is"):
        parse_duration(text, "window")


def test_a_window_ends_now_and_has_a_default_length() -> None:
    before = time.time_ns()
    window = parse_window(None, None)
    assert window.length == 60 * MINUTE
    assert before <= window.until <= time.time_ns()
    ago = parse_window("-15m", "now")
    assert ago.length == pytest.approx(15 * MINUTE, abs=MINUTE)


def test_a_window_of_times() -> None:
    window = parse_window("2026-09-21T14:13:20Z", 1_790_000_060)
    assert window == Window(TIME, TIME + MINUTE)
    assert window.before() == Window(TIME - MINUTE, TIME)
    assert parse_window(None, 1_790_000_000, "1m") == Window(TIME - MINUTE, TIME)


@pytest.mark.parametrize(("since", "until"), [("soon", None), (TIME, TIME), ("-1m", "-2m")])
def test_no_window(since: str | int, until: str | int | None) -> None:
    with pytest.raises(InvalidArgument):
        parse_window(since, until)
