"""Health: every adapter is asked at once, and none can hold up or break the report."""

import anyio
import pytest

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.health import Counts, HealthService

COUNTS = Counts(datasets=0, models=0, model_versions=0, jobs={}, workers_alive=0)


async def count() -> Counts:
    return COUNTS


async def well() -> str:
    return "well"


async def away() -> str:
    raise Unavailable("It is away.", "Start it.")


async def broken() -> str:
    raise RuntimeError("secret")


async def stuck() -> str:
    await anyio.sleep_forever()
    return "never"


async def test_the_report_tells_each_adapter_apart(caplog: pytest.LogCaptureFixture) -> None:
    checks = {"a": well, "b": away, "c": broken, "d": stuck}
    report = await HealthService(checks, count, deadline_s=0.1).check()
    assert report.status == "degraded"
    assert list(report.adapters) == ["a", "b", "c", "d"]
    said = {name: (adapter.status, adapter.detail) for name, adapter in report.adapters.items()}
    assert said == {
        "a": ("ok", "well"),
        "b": ("failing", "It is away."),
        "c": ("failing", "RuntimeError; the hub's log has details."),
        "d": ("failing", "No answer within 0.1 s."),
    }
    assert report.adapters["b"].hint == "Start it."
    assert "secret" in caplog.text


async def test_who_does_not_answer_is_told_with_the_place() -> None:
    places = {"d": "redis://:***@cache"}
    service = HealthService({"d": stuck}, count, places=places, deadline_s=0.1)
    (told,) = (await service.check()).adapters.values()
    assert told.detail == "No answer from redis://:***@cache within 0.1 s."
    assert told.hint


async def test_one_can_be_asked_without_the_others() -> None:
    service = HealthService({"a": well, "d": stuck}, count, deadline_s=60)
    with anyio.fail_after(5):
        report = await service.check(only=["a"])
    assert (report.status, list(report.adapters)) == ("ok", ["a"])


async def test_all_are_asked_at_once_and_within_the_deadline() -> None:
    service = HealthService({str(n): stuck for n in range(50)}, count, deadline_s=0.2)
    with anyio.fail_after(5):
        report = await service.check()
    assert all(200 <= adapter.latency_ms < 2000 for adapter in report.adapters.values())


async def test_what_nothing_needs_is_left_out() -> None:
    async def unneeded() -> str | None:
        return None

    report = await HealthService({"a": unneeded, "b": well}, count).check()
    assert (report.status, list(report.adapters)) == ("ok", ["b"])


async def test_a_hub_that_is_well_is_ok() -> None:
    service = HealthService({"a": well}, count)
    assert (await service.check()).status == "ok"
    assert await service.counts() == COUNTS
