"""Alerts from the rule to who is told, with a real Alertmanager and a real webhook."""

import base64
import hashlib
import hmac
import json
import subprocess
import time
from typing import Any
from uuid import uuid4

import anyio
import httpx2
import pytest
from sqlalchemy import Connection, select

from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import telemetry_records, telemetry_series
from mcp_hub.adapters.errors import LimitExceeded, Unavailable
from mcp_hub.services.telemetry.aggregates.aggregating import Aggregating
from mcp_hub.services.telemetry.alerts.delivering import Alertmanager, Webhook
from mcp_hub.services.telemetry.alerts.evaluating import Evaluator, alert_topic
from mcp_hub.services.telemetry.alerts.measuring import Measuring
from mcp_hub.services.telemetry.alerts.rules import MINUTE_NS, Rule
from mcp_hub.services.telemetry.alerts.service import AlertService
from mcp_hub.services.telemetry.alerts.views import AlertView
from mcp_hub.services.telemetry.intake.ingest import Ingest
from tests.receiving import Receiver
from tests.servers import Server, need
from tests.waiting import eventually

from .conftest import load

LATER = 10 * MINUTE_NS
OVER_5 = {"kind": "metric", "name": "load", "measure": "max", "threshold": 5, "window": "5m"}


def evaluator(store: Database, ingest: Ingest, bus: DatabaseBus, **tellers: Any) -> Evaluator:
    return Evaluator(store, ingest, bus, Measuring(Aggregating(store)), interval_s=0.05, **tellers)


def alert_service(store: Database, bus: DatabaseBus, **tellers: Any) -> AlertService:
    return AlertService(store, bus, Measuring(Aggregating(store)), **tellers)


async def state_of(service: AlertService, name: str) -> AlertView:
    return (await service.get(name)).alerts[0]


async def transitions(store: Database) -> list[str]:
    records, series = telemetry_records, telemetry_series

    def read(connection: Connection) -> list[str]:
        joined = records.join(series, records.c.series == series.c.series)
        query = select(series.c.name).select_from(joined).where(series.c.kind == "event")
        return list(connection.execute(query.order_by(records.c.time)).scalars())

    return await store.read(read)


async def test_it_goes_through_its_states_and_each_is_an_event(
    store: Database, ingest: Ingest, bus: DatabaseBus
) -> None:
    service = alert_service(store, bus)
    await service.set("hot", OVER_5 | {"for": "1m"}, created_by="test")
    one = evaluator(store, ingest, bus)
    await one.evaluate()
    assert (await state_of(service, "hot")).state == "ok"
    async with bus.subscribe() as topics:
        await load(ingest, 7)
        now = time.time_ns()
        await one.evaluate(now)
        assert (await state_of(service, "hot")).state == "pending"
        with anyio.fail_after(5):
            while await topics.receive() != alert_topic("hot"):
                pass
    await one.evaluate(now + MINUTE_NS)
    firing = await state_of(service, "hot")
    assert (firing.state, firing.value) == ("firing", 7)
    await one.evaluate(now + LATER)
    assert (await state_of(service, "hot")).state == "ok"
    assert await transitions(store) == ["alert.pending", "alert.firing", "alert.resolved"]


async def test_an_anomaly_fires(store: Database, ingest: Ingest, bus: DatabaseBus) -> None:
    now = time.time_ns()
    for minutes in range(2, 26):
        await load(ingest, 10 + minutes % 3, time=now - minutes * MINUTE_NS)
    await load(ingest, 40, time=now - 1)
    service = alert_service(store, bus)
    rule = {"name": "load", "measure": "avg", "window": "1m", "deviations": 6}
    tested = (await service.test(rule)).tested
    assert tested is not None
    assert (tested.value, tested.would_fire, tested.broken_before) == (40, True, 0)
    await service.set("odd", rule, created_by="test")
    await evaluator(store, ingest, bus).evaluate(now)
    assert (await state_of(service, "odd")).state == "firing"


async def test_alertmanager_is_told_and_its_silence_is_respected(
    store: Database, ingest: Ingest, bus: DatabaseBus, alertmanager_server: Server,
    receiver: Receiver,
) -> None:  # fmt: skip
    alertmanager, webhook = Alertmanager(alertmanager_server.url), Webhook(receiver.url, None)
    service = alert_service(store, bus, alertmanager=alertmanager, webhook=webhook)
    one = evaluator(store, ingest, bus, alertmanager=alertmanager, webhook=webhook)
    name = f"hot-{uuid4().hex[:8]}"
    amtool = [need("amtool", "apt-get install prometheus-alertmanager"),
              f"--alertmanager.url={alertmanager_server.url}"]  # fmt: skip

    def run(*arguments: str) -> str:
        return subprocess.run(
            [*amtool, *arguments], check=True, capture_output=True, text=True
        ).stdout

    await anyio.to_thread.run_sync(
        lambda: run("silence", "add", f"alertname={name}", "-d", "1h", "-a", "t", "-c", "test")
    )
    await service.set(name, OVER_5 | {"labels": {"team": "ml"}}, created_by="test")
    await load(ingest, 7)
    now = time.time_ns()
    await one.evaluate(now)
    async with httpx2.AsyncClient(base_url=alertmanager_server.url) as http:
        query = {"filter": f'alertname="{name}"'}

        async def told() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await http.get("/api/v2/alerts", params=query)).json()
            return found

        async def is_suppressed() -> bool:
            return [alert["status"]["state"] for alert in await told()] == ["suppressed"]

        await eventually(is_suppressed)
        (alert,) = await told()
        assert alert["labels"] == {
            "alertname": name, "source": "mcp-hub", "severity": "warning", "team": "ml",
        }  # fmt: skip
        assert "it is 7" in alert["annotations"]["summary"]
        assert (await state_of(service, name)).silenced == "by Alertmanager"
        await service.delete(name)
        assert receiver.requests == []

        async def is_gone() -> bool:
            return await told() == []

        await eventually(is_gone)


async def test_a_resolved_alert_ends_in_alertmanager(
    store: Database, ingest: Ingest, bus: DatabaseBus, alertmanager_server: Server
) -> None:
    alertmanager = Alertmanager(alertmanager_server.url)
    service = alert_service(store, bus, alertmanager=alertmanager)
    one = evaluator(store, ingest, bus, alertmanager=alertmanager)
    name = f"hot-{uuid4().hex[:8]}"
    await service.set(name, OVER_5, created_by="test")
    await load(ingest, 7)
    now = time.time_ns()
    await one.evaluate(now)

    async def listed() -> int:
        async with httpx2.AsyncClient(base_url=alertmanager_server.url) as http:
            query = {"filter": f'alertname="{name}"'}
            return len((await http.get("/api/v2/alerts", params=query)).json())

    await eventually(listed)
    await one.evaluate(now + LATER)

    async def is_gone() -> bool:
        return await listed() == 0

    await eventually(is_gone)


async def test_the_webhook_is_signed_tried_again_and_told_once(
    store: Database, ingest: Ingest, bus: DatabaseBus, receiver: Receiver
) -> None:
    secret = base64.b64encode(b"k" * 24).decode()
    webhook = Webhook(f"{receiver.url}/hooks/of-ours", f"whsec_{secret}")
    service = alert_service(store, bus, webhook=webhook)
    one = evaluator(store, ingest, bus, webhook=webhook)
    receiver.answers.append(503)
    await service.set("hot", OVER_5, created_by="test")
    await load(ingest, 7)
    now = time.time_ns()
    await one.evaluate(now)
    assert (await state_of(service, "hot")).problem == "The webhook answered 503."

    async def told_again() -> bool:
        await one.evaluate(now)
        return len(receiver.requests) == 2

    await eventually(told_again)
    assert (await state_of(service, "hot")).problem is None
    await evaluator(store, ingest, bus, webhook=webhook).evaluate(now)
    assert len(receiver.requests) == 2, "a further leader told it again"
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    told = json.loads(second.body)
    assert (told["type"], told["data"]["alert"], told["data"]["value"]) == (
        "alert.firing", "hot", 7,
    )  # fmt: skip
    signed = f"{second.headers['webhook-id']}.{second.headers['webhook-timestamp']}."
    mac = hmac.new(b"k" * 24, signed.encode() + second.body, hashlib.sha256).digest()
    assert second.headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"
    await one.evaluate(now + LATER)
    assert json.loads(receiver.requests[-1].body)["type"] == "alert.resolved"
    await one.evaluate(now + LATER)
    assert len(receiver.requests) == 3


async def test_nobody_is_told_of_what_is_silenced(
    store: Database, ingest: Ingest, bus: DatabaseBus, receiver: Receiver
) -> None:
    webhook = Webhook(receiver.url, None)
    service = alert_service(store, bus, webhook=webhook)
    one = evaluator(store, ingest, bus, webhook=webhook)
    await service.set("hot", OVER_5, created_by="test")
    await service.silence("hot", "1h")
    await load(ingest, 7)
    now = time.time_ns()
    await one.evaluate(now)
    silenced = await state_of(service, "hot")
    assert silenced.state == "firing"
    assert silenced.silenced is not None
    assert silenced.silenced.startswith("until ")
    assert receiver.requests == []
    await service.silence("hot", "0s")
    await one.evaluate(now)
    assert len(receiver.requests) == 1


async def test_one_evaluates_and_another_follows(
    store: Database, ingest: Ingest, bus: DatabaseBus, receiver: Receiver
) -> None:
    webhook = Webhook(receiver.url, None)
    service = alert_service(store, bus, webhook=webhook)
    await service.set("hot", OVER_5, created_by="test")
    await load(ingest, 7)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(evaluator(store, ingest, bus, webhook=webhook).run)
        await eventually(lambda: bool(receiver.requests))
        tasks.cancel_scope.cancel()
    assert len(receiver.requests) == 1
    await service.set("hotter", OVER_5 | {"threshold": 6}, created_by="test")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(evaluator(store, ingest, bus, webhook=webhook).run)
        await eventually(lambda: len(receiver.requests) == 2)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/alert", "http://nowhere.invalid/x"])
async def test_who_cannot_be_told_is_a_problem_that_names_no_url(
    store: Database, ingest: Ingest, bus: DatabaseBus, url: str
) -> None:
    webhook, alertmanager = Webhook(url, None), Alertmanager(url)
    service = alert_service(store, bus, webhook=webhook, alertmanager=alertmanager)
    await service.set("hot", OVER_5, created_by="test")
    await load(ingest, 7)
    await evaluator(store, ingest, bus, webhook=webhook, alertmanager=alertmanager).evaluate()
    problem = (await state_of(service, "hot")).problem
    assert problem is not None
    assert "Alertmanager does not answer" in problem
    assert "The webhook does not answer" in problem
    assert "127.0.0.1" not in problem
    assert "nowhere" not in problem


async def test_a_problem_is_told_once_however_often_it_is_met(
    store: Database, ingest: Ingest, bus: DatabaseBus
) -> None:
    url = "http://127.0.0.1:9/alert"
    webhook, alertmanager = Webhook(url, None), Alertmanager(url)
    service = alert_service(store, bus, webhook=webhook, alertmanager=alertmanager)
    one = evaluator(store, ingest, bus, webhook=webhook, alertmanager=alertmanager)
    await service.set("hot", OVER_5, created_by="test")
    await load(ingest, 7)
    now = time.time_ns()
    problems = []
    for _ in range(3):
        await one.evaluate(now)
        problems.append((await state_of(service, "hot")).problem)
    assert problems[0] is not None
    assert problems == problems[:1] * 3


async def test_a_rule_about_what_no_record_has_is_a_problem_until_one_has(
    store: Database, ingest: Ingest, bus: DatabaseBus
) -> None:
    service = alert_service(store, bus)
    await service.set("odd", {"where": {"colour": "red"}, "threshold": 0}, created_by="test")
    one = evaluator(store, ingest, bus)
    await one.evaluate()
    before = await state_of(service, "odd")
    assert before.problem is not None
    assert "colour" in before.problem
    await load(ingest, 1, attributes={"colour": "red"})
    await one.evaluate()
    after = await state_of(service, "odd")
    assert (after.state, after.problem) == ("firing", None)


class Failing(Measuring):
    """Fails for the rules with these labels `which`."""

    def __init__(self, aggregating: Aggregating) -> None:
        super().__init__(aggregating)
        self.errors: dict[str, Exception] = {}

    async def now(self, rule: Rule, now: int) -> tuple[float | None, bool]:
        if error := self.errors.get(rule.labels["which"]):
            raise error
        return await super().now(rule, now)


async def test_a_rule_that_cannot_be_measured_stays_as_it_is_and_stops_no_other(
    store: Database, ingest: Ingest, bus: DatabaseBus
) -> None:
    service, measuring = alert_service(store, bus), Failing(Aggregating(store))
    one = Evaluator(store, ingest, bus, measuring, interval_s=0.05)
    errors = {
        "full": LimitExceeded("There are more than 9 values."),
        "odd": KeyError("matchers"),
        "slow": Unavailable("It took too long."),
    }
    for name in errors:
        await service.set(name, OVER_5 | {"labels": {"which": name}}, created_by="test")
    await load(ingest, 7)
    now = time.time_ns()
    await one.evaluate(now)
    await service.set("zero", OVER_5 | {"labels": {"which": "zero"}}, created_by="test")
    measuring.errors = errors
    await one.evaluate(now)
    found = {alert.name: (alert.state, alert.problem) for alert in (await service.list()).alerts}
    assert found == {
        "full": ("firing", "There are more than 9 values."),
        "odd": ("firing", "It could not be evaluated; the hub's log has details."),
        "slow": ("firing", "It took too long."),
        "zero": ("firing", None),
    }
    measuring.errors = {}
    await one.evaluate(now + LATER)
    assert {(alert.state, alert.problem) for alert in (await service.list()).alerts} == {
        ("ok", None)
    }


@pytest.mark.parametrize(
    "shown", [b"", b"[{}]", b'[{"status": {"state": "active"}, "matchers": [{"name": "a"}]}]']
)
async def test_silences_that_are_none_of_alertmanager_s_silence_nobody(
    store: Database, ingest: Ingest, bus: DatabaseBus, receiver: Receiver, shown: bytes
) -> None:
    receiver.shown = shown
    alertmanager, webhook = Alertmanager(receiver.url), Webhook(receiver.url, None)
    service = alert_service(store, bus, alertmanager=alertmanager, webhook=webhook)
    await service.set("hot", OVER_5 | {"destinations": ["webhook"]}, created_by="test")
    await load(ingest, 7)
    await evaluator(store, ingest, bus, alertmanager=alertmanager, webhook=webhook).evaluate()
    assert len(receiver.requests) == 1
    told = await service.list()
    assert told.note is not None
    assert "Alertmanager's silences are not understood" in told.note
    assert [(alert.state, alert.problem) for alert in told.alerts] == [("firing", None)]
