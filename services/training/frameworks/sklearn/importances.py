"""How much a model relies on each raw column (permutation importance; Breiman, 2001)."""

from time import monotonic
from typing import Any

import numpy as np

from mcp_hub.services.training.frameworks.sklearn.auto import Budget
from mcp_hub.services.training.frameworks.sklearn.fitting import Model
from mcp_hub.services.training.frameworks.sklearn.voting import Vote
from mcp_hub.services.training.frameworks.tabular.reports import gain, measure
from mcp_hub.services.training.frameworks.tabular.rows import Data

_REPEATS = 5
_ROWS = 2_000
_SHARE = 0.5
"""Of what is left of the budget; the export needs the rest."""


def importances(
    model: Model | Vote, held_out: Data, metric: str, seed: int, budget: Budget
) -> dict[str, Any]:
    """What the metric loses on held-out rows when one column's values are shuffled among them.

    `{metric, rows, repeats, columns: [{column, mean, std}, …], left_out: [column, …]}`, the
    greatest loss first; `left_out` are those that the budget left no time for.
    """
    rng = np.random.default_rng(seed)
    if len(held_out) > _ROWS:
        held_out = held_out.part(np.sort(rng.permutation(len(held_out))[:_ROWS]))
    began = monotonic()
    base = _score(model, held_out, metric)
    once_s = monotonic() - began
    allowed_s = budget.left() * _SHARE
    names = [field.name for field in held_out.inputs]
    repeats = int(np.clip(allowed_s / max(once_s * len(names), 1e-9), 1, _REPEATS))
    columns: list[dict[str, Any]] = []
    for name in names if base is not None else ():
        if columns and monotonic() - began > allowed_s:
            break
        losses = []
        for _ in range(repeats):
            arrays = dict(held_out.arrays)
            arrays[name] = arrays[name][rng.permutation(len(held_out))]
            shuffled = Data(held_out.inputs, arrays, held_out.target, held_out.width)
            score = _score(model, shuffled, metric)
            if base is not None and score is not None:
                losses.append(gain(metric, base, score))
        columns.append(
            {"column": name, "mean": float(np.mean(losses)), "std": float(np.std(losses))}
        )
    done = len(columns)
    columns.sort(key=lambda column: -column["mean"])
    return {
        "metric": metric, "rows": len(held_out), "repeats": repeats, "columns": columns,
        "left_out": names[done:],
    }  # fmt: skip


def _score(model: Model | Vote, data: Data, metric: str) -> float | None:
    predicted = model.predict(model.features.transform(data.arrays), data.classes)
    return measure(metric, data.target.values, predicted)
