"""The evaluation of alert rules, by the one process that leads it."""

import logging
import time
from collections.abc import Sequence

import anyio

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import HubError, InvalidArgument, NotFound, Unavailable
from mcp_hub.services.leading import run_as_leader
from mcp_hub.services.telemetry.alerts import store
from mcp_hub.services.telemetry.alerts.delivering import (
    RESEND_S,
    Alertmanager,
    Notice,
    Silence,
    Status,
    Webhook,
)
from mcp_hub.services.telemetry.alerts.measuring import Measuring
from mcp_hub.services.telemetry.alerts.rules import Rule
from mcp_hub.services.telemetry.alerts.states import AlertState, Transition, step
from mcp_hub.services.telemetry.alerts.store import Alert
from mcp_hub.services.telemetry.envelope import HUB_SERVICE
from mcp_hub.services.telemetry.intake.accepting import Batch, make_record
from mcp_hub.services.telemetry.intake.ingest import Ingest

logger = logging.getLogger(__name__)

_MAX_BACK_OFF_S = 300.0


def alert_topic(name: str) -> str:
    """The topic under which an alert's changes are published: its resource's URI."""
    return f"telemetry://alerts/{name}"


class Evaluator:
    """Evaluates every rule each `interval_s`, and tells who is to be told."""

    def __init__(
        self,
        database: Database,
        ingest: Ingest,
        bus: Bus,
        measuring: Measuring,
        *,
        interval_s: float,
        alertmanager: Alertmanager | None = None,
        webhook: Webhook | None = None,
    ) -> None:
        self._database = database
        self._ingest = ingest
        self._bus = bus
        self._measuring = measuring
        self._interval_s = interval_s
        self._alertmanager = alertmanager
        self._webhook = webhook
        # When Alertmanager was told of a firing alert last, by its name; and what it does not know
        # yet is resolved.
        self._told: dict[str, float] = {}
        self._resolved: dict[str, Notice] = {}
        self._silences: list[Silence] | None = None
        # When the webhook is to be tried again, how long to wait after that, and what was wrong.
        self._wait: dict[str, tuple[float, float, str | None]] = {}

    async def run(self) -> None:
        """Evaluate whenever this process leads the evaluation, until cancelled."""
        await run_as_leader(self._database, "telemetry.alerts", self._evaluate_always)

    async def _evaluate_always(self) -> None:
        self._told.clear()
        while True:
            try:
                await self.evaluate()
            except Unavailable as error:
                logger.warning("Alerts are not evaluated for now: %s", error)
            except Exception:  # the next evaluation may do better
                logger.exception("Alerts could not be evaluated")
            await anyio.sleep(self._interval_s)

    async def evaluate(self, now: int | None = None) -> None:
        """Evaluate every rule once, as of `now` (ns).

        Raises:
            Unavailable: the database does not answer.
        """
        alerts = await self._database.read(store.find_all)
        if not alerts and not self._resolved:
            return
        self._silences = None
        for alert in alerts:
            if alert.enabled:
                await self._evaluate_one(alert, now or time.time_ns())
        await self._tell_resolved()

    async def _evaluate_one(self, alert: Alert, now: int) -> None:
        """Evaluate a rule, and write down what the problem with that is.

        Raises:
            Unavailable: the database does not take that.
        """
        try:
            problem = await self._problem_of(alert, now)
        except HubError as error:
            problem = error.message
        except Exception:  # the others are evaluated all the same
            logger.exception("The alert %s could not be evaluated", alert.name)
            problem = "It could not be evaluated; the hub's log has details."
        if problem != alert.problem:
            told = {"problem": problem}
            await self._database.write(lambda c: store.note(c, alert.name, told))

    async def _problem_of(self, alert: Alert, now: int) -> str | None:
        """Evaluate a rule, and tell who is to be told; the problem with that, if there is one."""
        rule = store.rule_of(alert)
        state, moves = AlertState(alert.state, alert.state_since), list[Transition]()
        value, broken, wrong = await self._measured(alert, rule, now)
        if broken is not None:
            state, moves = step(state, broken, now, rule.for_ns)
        quiet = (alert.silenced_until or 0) > now
        values = {
            "state": state.state, "state_since": state.since, "value": value, "evaluated_at": now,
        }  # fmt: skip
        if not await self._database.write(lambda c: store.change(c, alert, values)):
            # Changed by a person meanwhile: the next evaluation sees it.
            return str(alert.problem) if alert.problem else None
        if moves:
            await self._record(alert, rule, moves, value)
            await self._bus.publish(alert_topic(alert.name))
        problems = [
            wrong,
            await self._tell_alertmanager(alert.name, rule, state, moves, value, quiet=quiet),
            await self._tell_webhook(alert, rule, state, value, quiet=quiet),
        ]
        return " ".join(one for one in problems if one) or None

    async def _measured(
        self, alert: Alert, rule: Rule, now: int
    ) -> tuple[float | None, bool | None, str | None]:
        """A rule's value, whether it is a reason to alert, None where that cannot be told, and why
        it is not measured."""
        try:
            return *await self._measuring.now(rule, now), None
        except (InvalidArgument, NotFound) as error:
            # Such as an attribute that no record has yet.
            return None, False, error.message
        except HubError as error:
            # What fires is not over because it takes too long to see.
            return alert.value, None, error.message

    async def _record(
        self, alert: Alert, rule: Rule, moves: Sequence[Transition], value: float | None
    ) -> None:
        records = [
            make_record(
                "event",
                f"alert.{move}",
                time.time_ns(),
                service=HUB_SERVICE,
                attributes={
                    "alert.name": alert.name, "alert.condition": rule.condition,
                    "alert.value": value,
                },
            )
            for move in moves
        ]  # fmt: skip
        await self._ingest.record(Batch(records, list(range(len(records)))))

    async def _tell_alertmanager(
        self,
        name: str,
        rule: Rule,
        state: AlertState,
        moves: Sequence[Transition],
        value: float | None,
        *,
        quiet: bool,
    ) -> str | None:
        """Tell Alertmanager that it fires, again and again, or no longer; the problem with that.

        What is silenced there is told all the same: that is how it knows.
        """
        if self._alertmanager is None or "alertmanager" not in rule.destinations:
            return None
        if "resolved" in moves:
            self._told.pop(name, None)
            self._resolved[name] = Notice(name, rule, "resolved", state.since, value)
        if state.state != "firing" or quiet:
            return None
        self._resolved.pop(name, None)
        if anyio.current_time() - self._told.get(name, -RESEND_S) < RESEND_S:
            return None
        try:
            await self._alertmanager.tell(Notice(name, rule, "firing", state.since, value))
        except Unavailable as error:
            return error.message
        self._told[name] = anyio.current_time()
        return None

    async def _tell_resolved(self) -> None:
        if self._alertmanager is None:
            return
        for name, notice in list(self._resolved.items()):
            try:
                await self._alertmanager.tell(notice)
            except Unavailable as error:
                # Not for ever: it forgets by itself what is not sent again.
                logger.warning("That %s is resolved is not told yet: %s", name, error)
                return
            self._resolved.pop(name, None)

    async def _tell_webhook(
        self, alert: Alert, rule: Rule, state: AlertState, value: float | None, *, quiet: bool
    ) -> str | None:
        """Tell the webhook what it does not know yet, at least once; the problem with that."""
        fires = state.state == "firing"
        if self._webhook is None or "webhook" not in rule.destinations:
            return None
        if fires == alert.notified or (fires and quiet):
            return None
        again_at, delay_s, wrong = self._wait.get(alert.name, (0.0, self._interval_s, None))
        if anyio.current_time() < again_at:
            return wrong
        status: Status = "firing" if fires else "resolved"
        notice = Notice(alert.name, rule, status, state.since, value)
        if fires and await self._is_silenced(notice):
            return None
        try:
            await self._webhook.tell(notice)
        except Unavailable as error:
            self._wait[alert.name] = (
                anyio.current_time() + delay_s, min(delay_s * 2, _MAX_BACK_OFF_S), error.message
            )  # fmt: skip
            return error.message
        self._wait.pop(alert.name, None)
        told = {"notified": fires}
        await self._database.write(lambda c: store.note(c, alert.name, told))
        return None

    async def _is_silenced(self, notice: Notice) -> bool:
        """Whether Alertmanager silences it, as far as that is known; asked once an evaluation."""
        if self._alertmanager is None:
            return False
        if self._silences is None:
            try:
                self._silences = await self._alertmanager.silences()
            except Unavailable as error:
                logger.warning("Alertmanager's silences are not known: %s", error)
                self._silences = []
        return any(silence.covers(notice.labels) for silence in self._silences)
