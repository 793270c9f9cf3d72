"""Alert rules for their users: set, look at, silence, try out, remove."""

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import HubError, InvalidArgument, NotFound, Unavailable
from mcp_hub.services.telemetry.alerts import store
from mcp_hub.services.telemetry.alerts.delivering import Alertmanager, Notice, Webhook, labels_of
from mcp_hub.services.telemetry.alerts.evaluating import alert_topic
from mcp_hub.services.telemetry.alerts.measuring import WINDOWS_BEFORE, Measuring
from mcp_hub.services.telemetry.alerts.rules import RULE_HINT, Rule, is_broken, parse_rule
from mcp_hub.services.telemetry.alerts.store import Alert
from mcp_hub.services.telemetry.alerts.views import Alerts, AlertView, Tested
from mcp_hub.services.telemetry.windows import parse_duration
from mcp_hub.services.views import NAME_PATTERN

MAX_SILENCE_NS = 366 * 24 * 3600 * 10**9

Names = set[str]
"""Named, because `set` is a method in the class below."""


class AlertService:
    """The rules as rows; an `Evaluator` in one of the hub's processes does the rest."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        measuring: Measuring,
        *,
        alertmanager: Alertmanager | None = None,
        webhook: Webhook | None = None,
    ) -> None:
        self._database = database
        self._bus = bus
        self._measuring = measuring
        self._alertmanager = alertmanager
        self._webhook = webhook

    async def set(self, name: str, said: dict[str, Any] | None, *, created_by: str) -> Alerts:
        """Keep a rule under `name`, in place of one that has it; the same again changes nothing.

        Raises:
            InvalidArgument: the name or the rule is malformed.
            LimitExceeded: there are too many.
        """
        if said is None:
            raise InvalidArgument("set needs a rule.", RULE_HINT)
        rule = parse_rule(said)
        if not re.fullmatch(NAME_PATTERN, name):
            raise InvalidArgument(
                f"{name!r} cannot be an alert's name.", "Use letters, digits, dots, - and _."
            )
        now = time.time_ns()
        await self._database.write(lambda c: store.save(c, name, rule, created_by, now))
        await self._bus.publish(alert_topic(name))
        notes = [await self._not_measured(rule, now), self._nobody(rule)]
        return await self.get(name, note=" ".join(note for note in notes if note) or None)

    async def list(self) -> Alerts:
        """Every alert, those that fire first."""
        alerts = await self._database.read(store.find_all)
        silenced, note = await self._silenced(alerts)
        order = {"firing": 0, "pending": 1, "ok": 2}
        views = [_view(alert, silenced) for alert in alerts]
        return Alerts(alerts=sorted(views, key=lambda view: order[view.state]), note=note)

    async def get(self, name: str, *, note: str | None = None) -> Alerts:
        """An alert with its rule. Raises NotFound."""
        alert = await self._database.read(lambda c: store.find(c, name))
        silenced, problem = await self._silenced([alert])
        rule = store.rule_of(alert).model_dump(mode="json", by_alias=True, exclude_none=True)
        view = _view(alert, silenced).model_copy(update={"rule": rule})
        return Alerts(alerts=[view], note=note or problem)

    async def delete(self, name: str) -> Alerts:
        """Remove a rule; who was told that it fires is told that it does not. Raises NotFound."""
        alert = await self._database.write(lambda c: store.remove(c, name))
        await self._bus.publish(alert_topic(name))
        note = f"{name} is deleted."
        if alert.state == "firing":
            notice = Notice(name, store.rule_of(alert), "resolved", time.time_ns(), alert.value)
            for teller in self._tellers(notice.rule):
                if teller is self._webhook and not alert.notified:
                    continue
                try:
                    await teller.tell(notice)
                except Unavailable as error:
                    note += f" {error.message}"
        return Alerts(alerts=[], note=note)

    async def silence(self, name: str, duration: str) -> Alerts:
        """Tell nobody of an alert for `duration` from now; `0s` ends that. Raises NotFound."""
        length = parse_duration(duration, "silence_for")
        if length > MAX_SILENCE_NS:
            raise InvalidArgument(f"silence_for is {duration!r}.", "It is at most a year.")
        until = time.time_ns() + length if length else None
        await self._database.write(lambda c: store.silence(c, name, until))
        await self._bus.publish(alert_topic(name))
        return await self.get(name)

    async def test(self, said: dict[str, Any]) -> Alerts:
        """What a rule says now and said of the 24 windows before; nobody is told.

        Raises:
            InvalidArgument: the rule is malformed.
            InvalidArgument, NotFound: what it measures is not there.
        """
        rule = parse_rule(said)
        now = time.time_ns()
        value, would_fire = await self._measuring.now(rule, now)
        values = await self._measuring.before(rule, now, 2 * WINDOWS_BEFORE)
        tested = Tested(
            value=value,
            would_fire=would_fire,
            windows=WINDOWS_BEFORE,
            broken_before=sum(
                is_broken(rule, values[place], values[place - WINDOWS_BEFORE : place])
                for place in range(WINDOWS_BEFORE, len(values))
            ),
        )
        return Alerts(alerts=[], tested=tested, note=rule.condition)

    async def count_by_state(self) -> dict[str, int]:
        """How many alerts are in each state."""
        return await self._database.read(store.count_by_state)

    async def names(self, prefix: str = "") -> Sequence[str]:
        """The names of alerts that begin with `prefix`."""
        alerts = await self._database.read(store.find_all)
        return [alert.name for alert in alerts if alert.name.startswith(prefix)]

    def _tellers(self, rule: Rule) -> Sequence[Alertmanager | Webhook]:
        known = (("alertmanager", self._alertmanager), ("webhook", self._webhook))
        return [teller for name, teller in known if teller and name in rule.destinations]

    async def _not_measured(self, rule: Rule, now: int) -> str | None:
        """Why a rule watches nothing: what it asks for may still come."""
        try:
            await self._measuring.now(rule, now)
        except (InvalidArgument, NotFound) as error:
            return f"There is nothing to watch yet: {error.message} {error.hint or ''}".strip()
        return None

    def _nobody(self, rule: Rule) -> str | None:
        if self._tellers(rule):
            return None
        return (
            "Nobody is told but subscribers of telemetry://alerts/{name}: set "
            "telemetry.alertmanager_url or telemetry.webhook_url."
        )

    async def _silenced(self, alerts: Sequence[Alert]) -> tuple[Names, str | None]:
        """Which of the alerts Alertmanager silences, and why that is not known."""
        if self._alertmanager is None or all(alert.state != "firing" for alert in alerts):
            return set(), None
        try:
            silences = await self._alertmanager.silences()
        except HubError as error:
            return set(), f"Whether Alertmanager silences them is not known: {error.message}"
        labels = {alert.name: labels_of(alert.name, store.rule_of(alert)) for alert in alerts}
        return {n for n in labels if any(one.covers(labels[n]) for one in silences)}, None


def _view(alert: Alert, silenced: Names) -> AlertView:
    quiet = None
    if (alert.silenced_until or 0) > time.time_ns():
        quiet = f"until {_iso(alert.silenced_until)}"
    elif alert.name in silenced:
        quiet = "by Alertmanager"
    return AlertView(
        name=alert.name,
        state=alert.state,
        since=_iso(alert.state_since),
        value=alert.value,
        condition=store.rule_of(alert).condition,
        silenced=quiet,
        problem=alert.problem,
        evaluated_at=_iso(alert.evaluated_at) if alert.evaluated_at else None,
    )


def _iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
