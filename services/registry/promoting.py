"""Promotion: the only way an alias moves, each decision kept."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import model_aliases, promotions
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.ids import new_id
from mcp_hub.services.registry.evaluations import newest_evaluation
from mcp_hub.services.registry.gates import Approval, Candidate, Gates, evaluate
from mcp_hub.services.registry.references import Reference
from mcp_hub.services.registry.store import lock_model
from mcp_hub.services.registry.versions import VersionReader
from mcp_hub.services.registry.views import GateResult, ModelView, Promotion
from mcp_hub.services.views import iso


class Judged(NamedTuple):
    """A version held against the gates of a promotion."""

    view: ModelView
    previous: int | None
    results: list[GateResult]

    @property
    def lacks_only_approval(self) -> bool:
        failed = [result.gate for result in self.results if not result.passed]
        return failed == ["human_approval"]


def judge(
    connection: Connection,
    reader: VersionReader,
    reference: Reference,
    alias: str,
    gates: Gates,
    approval: Approval | None = None,
) -> Judged:
    """Hold the version against the gates, and against where `alias` points.

    Raises:
        NotFound: there is no such version, or it was deleted.
    """
    view = reader.read(connection, reference)
    previous: int | None = connection.scalar(
        select(model_aliases.c.version).where(
            model_aliases.c.name == view.name, model_aliases.c.alias == alias
        )
    )
    candidate = _candidate(connection, view, gates.evaluated)
    current = None
    if previous is not None:
        standing = reader.read(connection, Reference(view.name, version=previous))
        on = gates.evaluated
        if isinstance(on, str):
            # The same rows for both, or the better metric might be that of the easier data.
            on = candidate.evaluated_on or on
        current = _candidate(connection, standing, on)
    return Judged(view, previous, evaluate(gates, alias, candidate, current, approval))


def promote(
    connection: Connection,
    reader: VersionReader,
    reference: Reference,
    alias: str,
    gates: Gates,
    reason: str,
    decided_by: str,
    approval: Approval | None = None,
) -> Promotion:
    """Move `alias` to the version if every gate passes, and keep the decision either way.

    Concurrent promotions of one model are decided one after the other. Raises as `judge`.
    """
    lock_model(connection, reference.name)
    view, previous, results = judge(connection, reader, reference, alias, gates, approval)
    promoted = all(result.passed for result in results)
    if promoted:
        _point(connection, view.name, alias, view.version)
    decision = {
        "name": view.name,
        "alias": alias,
        "version": view.version,
        "previous": previous,
        "promoted": promoted,
        "gates": [result.model_dump(mode="json") for result in results],
        "reason": reason,
        "decided_by": decided_by,
        "decided_at": _decision_time(connection, view.name),
    }
    connection.execute(promotions.insert().values(id=new_id("pr"), **decision))
    return _view(decision)


def decisions(
    connection: Connection,
    name: str,
    *,
    version: int | None = None,
    before: int | None = None,
    limit: int,
) -> list[tuple[int, Promotion]]:
    """The decisions about a model or one of its versions, newest first, each behind its time."""
    statement = select(promotions).where(promotions.c.name == name)
    if version is not None:
        statement = statement.where(promotions.c.version == version)
    if before is not None:
        statement = statement.where(promotions.c.decided_at < before)
    newest_first = statement.order_by(promotions.c.decided_at.desc()).limit(limit)
    rows = connection.execute(newest_first).mappings()
    return [(row["decided_at"], _view(dict(row))) for row in rows]


def _candidate(connection: Connection, view: ModelView, evaluated: bool | str) -> Candidate:
    """The version as the gates look at it, its metrics those of its newest evaluation on the data
    set `evaluated` where that names one."""
    if evaluated is False:
        return Candidate(view.version, view.metrics, view.signature, scored_on=view.dataset)
    dataset = None if evaluated is True else evaluated
    found = newest_evaluation(connection, view.name, view.version, dataset)
    metrics = view.metrics if dataset is None else found.metrics if found else {}
    on = found.dataset if found else None
    return Candidate(view.version, metrics, view.signature, on, on if dataset else view.dataset)


def _point(connection: Connection, name: str, alias: str, version: int) -> None:
    moved = {"version": version, "updated_at": now_ms()}
    connection.execute(
        insert_for(connection, model_aliases)
        .values(name=name, alias=alias, **moved)
        .on_conflict_do_update(index_elements=["name", "alias"], set_=moved)
    )


def _decision_time(connection: Connection, name: str) -> int:
    """Now, or a millisecond after the model's last decision, so that times give their order."""
    last = select(func.max(promotions.c.decided_at)).where(promotions.c.name == name)
    now, latest = connection.execute(select(now_ms(), last.scalar_subquery())).one()
    return int(now if latest is None else max(now, latest + 1))


def _view(decision: Mapping[str, Any]) -> Promotion:
    values = {key: value for key, value in decision.items() if key != "id"}
    return Promotion.model_validate(values | {"decided_at": iso(decision["decided_at"])})
