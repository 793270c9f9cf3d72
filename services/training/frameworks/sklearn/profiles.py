"""What sets clusters apart, column by column."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_hub.services.data.dates import parse_datetimes
from mcp_hub.services.registry.views import InputField

_TRAITS = 3
_LEAST_WEIGHT = 0.3


@dataclass(frozen=True, slots=True)
class _Trait:
    """How a column differs in a cluster: by `weight`, in standard deviations, or twice a share."""

    weight: float
    words: str
    facts: dict[str, Any]


def profiles(
    frame: pl.DataFrame, inputs: list[InputField], labels: NDArray[Any]
) -> list[dict[str, Any]]:
    """What sets each cluster apart: `{cluster, rows, share, traits, summary}`.

    A trait is a column with the cluster's mean, the frequency of a value, or the share of missing
    ones, and the same of all rows; the most telling come first.
    """
    told = []
    for cluster in np.unique(labels).tolist():
        mask = labels == cluster
        traits = [
            trait
            for one in inputs
            for trait in _traits(one, frame[one.name], pl.Series(mask))
            if trait.weight >= _LEAST_WEIGHT
        ]
        traits.sort(key=lambda trait: -trait.weight)
        told.append(
            {
                "cluster": cluster, "rows": int(mask.sum()), "share": round(float(mask.mean()), 4),
                "traits": [trait.facts for trait in traits[:10]],
                "summary": "; ".join(trait.words for trait in traits[:_TRAITS])
                or "close to the average in every column",
            }
        )  # fmt: skip
    return told


def _traits(one: InputField, everywhere: pl.Series, mask: pl.Series) -> Iterator[_Trait]:
    """Those of a column, in the rows of `mask`, that can be told shortly."""
    here = everywhere.filter(mask)
    yield _gap(one.name, everywhere, here)
    if not len(here.drop_nulls()):
        return
    if one.kind == "number":
        values = everywhere.cast(pl.Float64, strict=False)
        yield from _mean(
            one.name, values, mask, ("low", "high"), lambda mean: (mean, f"{mean:.4g}")
        )
    elif one.kind == "datetime" and (times := parse_datetimes(everywhere)) is not None:
        # As where they are learned from: others count as missing.
        times = times.set(~times.dt.year().is_between(1, 9999).fill_null(True), None)
        days = times.dt.epoch("s") / 86_400
        yield from _mean(one.name, days, mask, ("early", "late"), lambda day: (_date(day),) * 2)
    elif one.kind in ("category", "boolean"):
        yield _value(one.name, everywhere.cast(pl.String), here.cast(pl.String))


def _mean(
    column: str,
    everywhere: pl.Series,
    mask: pl.Series,
    words: tuple[str, str],
    shown: Callable[[float], tuple[Any, str]],
) -> Iterator[_Trait]:
    """How far the mean is off, in one of `words`; `shown` gives a mean as fact and text."""
    values = everywhere.drop_nulls().to_numpy()
    mine = everywhere.filter(mask).drop_nulls().to_numpy()
    if not len(mine) or not (spread := float(values.std())):
        return
    own, usual = float(mine.mean()), float(values.mean())
    (fact, text), (of_all, text_of_all) = shown(own), shown(usual)
    yield _Trait(
        abs(own - usual) / spread,
        f"{column} {words[own > usual]} ({text}, all {text_of_all})",
        {"column": column, "mean": fact, "all": of_all},
    )


def _value(column: str, everywhere: pl.Series, here: pl.Series) -> _Trait:
    """How much more often its most frequent value comes."""
    value = str(here.drop_nulls().mode().sort()[0])
    share, usual = (float((c == value).mean() or 0) for c in (here, everywhere))  # type: ignore[arg-type]
    return _Trait(
        2 * abs(share - usual),
        f"{column} {value!r} {share:.0%} (all {usual:.0%})",
        {"column": column, "value": value, "share": share, "all": usual},
    )


def _gap(column: str, everywhere: pl.Series, here: pl.Series) -> _Trait:
    """How much more, or less, of it is missing."""
    share, usual = (c.null_count() / len(c) for c in (here, everywhere))
    return _Trait(
        2 * abs(share - usual),
        f"{column} missing {share:.0%} (all {usual:.0%})",
        {"column": column, "missing": share, "all": usual},
    )


def _date(days: float) -> str:
    """So many days after 1970-01-01."""
    return (date(1970, 1, 1) + timedelta(days)).isoformat()
