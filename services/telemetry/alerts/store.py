"""The rows of alert rules, each change a function of one transaction."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from mcp_hub.adapters.database.telemetry_schema import telemetry_alerts
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.errors import LimitExceeded, NotFound, names_hint
from mcp_hub.services.telemetry.alerts.rules import Rule

Alert = Row[Any, Any]
MAX_ALERTS = 100

_table = telemetry_alerts


def rule_of(alert: Alert) -> Rule:
    """The rule of a row."""
    return Rule.model_validate(json.loads(alert.rule))


def save(connection: Connection, name: str, rule: Rule, created_by: str, now: int) -> None:
    """Add a rule, or put another in its place, which begins anew.

    Raises:
        LimitExceeded: there are too many.
    """
    text = rule.model_dump_json(by_alias=True)
    found = connection.execute(select(_table.c.rule).where(_table.c.name == name)).first()
    if found is None:
        count = connection.execute(select(func.count()).select_from(_table)).scalar_one()
        if count >= MAX_ALERTS:
            raise LimitExceeded(f"There are {count} alert rules already.", "Delete one first.")
    elif found.rule == text:
        return
    begun: dict[str, Any] = {
        "rule": text, "enabled": True, "state": "ok", "state_since": now, "value": None,
        "evaluated_at": None, "problem": None, "created_by": created_by,
    }  # fmt: skip
    insert = insert_for(connection, _table).values(
        name=name, created_at=now, silenced_until=None, notified=False, **begun
    )
    connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=begun))


def find(connection: Connection, name: str) -> Alert:
    """The row of a rule.

    Raises:
        NotFound: there is none of that name.
    """
    alert = connection.execute(select(_table).where(_table.c.name == name)).first()
    if alert is None:
        known = connection.execute(select(_table.c.name)).scalars()
        raise NotFound(f"There is no alert {name!r}.", names_hint(name, known, "alerts"))
    return alert


def find_all(connection: Connection) -> list[Alert]:
    """Every rule, by name."""
    return list(connection.execute(select(_table).order_by(_table.c.name)))


def count_by_state(connection: Connection) -> dict[str, int]:
    query = select(_table.c.state, func.count().label("alerts")).group_by(_table.c.state)
    return {row.state: row.alerts for row in connection.execute(query)}


def remove(connection: Connection, name: str) -> Alert:
    """Remove a rule; what it was. Raises as `find`."""
    alert = find(connection, name)
    connection.execute(delete(_table).where(_table.c.name == name))
    return alert


def silence(connection: Connection, name: str, until: int | None) -> None:
    """Say until when nobody is told of an alert. Raises as `find`."""
    find(connection, name)
    connection.execute(update(_table).where(_table.c.name == name).values(silenced_until=until))


def change(connection: Connection, alert: Alert, values: Mapping[str, Any]) -> bool:
    """Write down what an evaluation found, unless the rule or its state was changed meanwhile."""
    same = (
        (_table.c.name == alert.name)
        & (_table.c.rule == alert.rule)
        & (_table.c.state == alert.state)
        & (_table.c.state_since == alert.state_since)
    )
    return bool(connection.execute(update(_table).where(same).values(**values)).rowcount)


def note(connection: Connection, name: str, values: Mapping[str, Any]) -> None:
    """Write down what delivery found, whatever state the alert is in by now."""
    connection.execute(update(_table).where(_table.c.name == name).values(**values))
