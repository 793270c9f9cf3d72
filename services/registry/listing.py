"""Models in a list, and versions side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from mcp_hub.adapters.database.schema import model_aliases, model_versions
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.registry.gates import lower_is_better, signature_differences
from mcp_hub.services.registry.labels import parse_tag_filter
from mcp_hub.services.registry.references import Reference
from mcp_hub.services.registry.views import MetricRow, ModelComparison, ModelSummary, ModelView
from mcp_hub.services.views import iso

MOST_COMPARED = 20


def list_models(
    connection: Connection, *, limit: int, after: str, name: str | None, tag: str | None
) -> list[ModelSummary]:
    """Up to `limit` models by name, beginning behind `after`; what was deleted is left out.

    `name` is a part of the name in any case; `tag` is a key, or key=value, of the newest version.
    """
    live = (
        select(
            model_versions.c.name,
            func.max(model_versions.c.version).label("version"),
            func.count().label("versions"),
        )
        .where(model_versions.c.deleted_at.is_(None), model_versions.c.name > after)
        .group_by(model_versions.c.name)
    )
    if name:
        lowered = func.lower(model_versions.c.name)
        live = live.where(lowered.contains(name.lower(), autoescape=True))
    newest = live.subquery()
    v = model_versions.c
    statement = (
        select(v.name, v.version, newest.c.versions, v.metrics, v.tags, v.created_at)
        .join(newest, (v.name == newest.c.name) & (v.version == newest.c.version))
        .order_by(v.name)
        .limit(limit)
    )
    if tag:
        key, value = parse_tag_filter(tag)
        found = v.tags[key].as_string()
        statement = statement.where(found.is_not(None) if value is None else found == value)
    rows = connection.execute(statement).mappings().all()
    aliases = _aliases(connection, [row["name"] for row in rows])
    return [
        ModelSummary.model_validate(
            {**row, "aliases": aliases.get(row["name"], {}), "created_at": iso(row["created_at"])}
        )
        for row in rows
    ]


def check_compared(references: Sequence[Reference]) -> Sequence[Reference]:
    """`references` if so many can be compared.

    Raises:
        InvalidArgument: there are fewer than two or more than twenty.
    """
    if 2 <= len(references) <= MOST_COMPARED:
        return references
    raise InvalidArgument(
        f"{len(references)} references were given; a comparison takes 2 to {MOST_COMPARED}."
    )


def compare(views: Sequence[ModelView]) -> ModelComparison:
    """Versions side by side, a column each, in their order.

    Raises:
        InvalidArgument: one is there twice.
    """
    models = [view.model for view in views]
    if len(set(models)) < len(models):
        raise InvalidArgument(
            f"These references name {', '.join(models)}: the same version more than once.",
            "Give references that name different versions.",
        )
    first = views[0]
    metrics = {metric: None for view in views for metric in view.metrics}
    each = [_flat(view.params) for view in views]
    params = {param: None for flat in each for param in flat}
    values = {param: [flat.get(param) for flat in each] for param in params}
    return ModelComparison(
        models=models,
        metrics=[_metric_row(metric, views) for metric in metrics],
        differing_params={
            param: column
            for param, column in values.items()
            # repr, because True == 1 == 1.0.
            if len({repr(value) for value in column}) > 1
        },
        same_signature=not any(
            signature_differences(first.signature, view.signature) for view in views[1:]
        ),
        same_dataset=first.dataset is not None and len({view.dataset for view in views}) == 1,
    )


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The params with those inside others as `config.estimator`, so that only these are told."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _metric_row(metric: str, views: Sequence[ModelView]) -> MetricRow:
    values = {view.model: view.metrics[metric] for view in views if metric in view.metrics}
    best = (min if lower_is_better(metric) else max)(values.values())
    # What a constant, or chance, would have is nobody's merit.
    counts = not metric.startswith("baseline_")
    winners = [model for model, value in values.items() if counts and value == best]
    return MetricRow(
        metric=metric,
        values=[values.get(view.model) for view in views],
        best=winners[0] if len(winners) == 1 else None,
    )


def _aliases(connection: Connection, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """The aliases of several models: name → alias → version."""
    a = model_aliases.c
    found: dict[str, dict[str, int]] = {}
    rows: Any = connection.execute(
        select(a.name, a.alias, a.version).where(a.name.in_(names)).order_by(a.name, a.alias)
    )
    for name, alias, version in rows:
        found.setdefault(name, {})[alias] = version
    return found
