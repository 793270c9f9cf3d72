"""`auto=true` beside five plain scikit-learn estimators, scored on the same held-out rows.

Each estimator has scikit-learn's own settings behind a plain pipeline: numbers imputed and scaled,
all else one-hot. For each data set and seed a fifth of the rows is held out, the same for all, and
there are so many seeds that 2,000 rows or more are predicted: with half of them, the lead's
standard error, `error`, was nearly all of what may be lost.
`best of five` is the estimator whose mean over the seeds is the highest: chosen with the held-out
scores known, which a user could not do. `oracle` goes further and takes the best of each seed's
five; on 30 held-out rows one row is 0.033, so most of its lead is luck. Accuracy, or R².
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import palmerpenguins
import pandas as pd
import polars as pl
from sklearn import datasets
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR
from vega_datasets import local_data

from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.frameworks.sklearn import SklearnFramework
from mcp_hub.services.training.run import run

ALLOWED = 0.01
HELD_OUT_ROWS = 2_000
"""At least so many rows are predicted of each data set, over all seeds."""
MIN_SEEDS = 5


@dataclass(frozen=True, slots=True)
class Table:
    """A data set with its target; rows without one are left out."""

    frame: pd.DataFrame
    target: str
    type: str = "classification"

    @property
    def known(self) -> pd.DataFrame:
        return self.frame[self.frame[self.target].notna()].reset_index(drop=True)


@dataclass(frozen=True, slots=True)
class Result:
    """Scores by seed of auto, and of each plain estimator; the seconds that auto took."""

    name: str
    held_out: int
    auto: list[float]
    plain: dict[str, list[float]]
    seconds: list[float]

    @property
    def best(self) -> str:
        return max(self.plain, key=lambda name: float(np.mean(self.plain[name])))

    @property
    def lead(self) -> float:
        """How far auto is ahead of the best of five, in the mean over the seeds."""
        return float(np.mean(self.auto) - np.mean(self.plain[self.best]))

    @property
    def error(self) -> float:
        """The standard error of the lead."""
        leads = np.subtract(self.auto, self.plain[self.best])
        return float(np.std(leads, ddof=1) / len(leads) ** 0.5) if len(leads) > 1 else float("nan")

    @property
    def oracle(self) -> float:
        return float(np.mean(np.max(list(self.plain.values()), axis=0)))


def _bundled(name: str, type: str = "classification") -> Callable[[], Table]:
    def load() -> Table:
        data = getattr(datasets, f"load_{name}")()
        columns = dict(zip(map(str, data.feature_names), data.data.T, strict=True))
        return Table(pd.DataFrame({**columns, "y": data.target}), "y", type)

    return load


def _penguins() -> pd.DataFrame:
    return pd.read_csv(Path(palmerpenguins.__file__).parent / "data" / "penguins.csv")


def _cars() -> pd.DataFrame:
    return local_data.cars().drop(columns="Name")  # It all but tells the origin.


TABLES: dict[str, Callable[[], Table]] = {
    "iris": _bundled("iris"),
    "wine": _bundled("wine"),
    "breast_cancer": _bundled("breast_cancer"),
    "digits": _bundled("digits"),
    "penguins": lambda: Table(_penguins(), "species"),
    "cars-origin": lambda: Table(_cars(), "Origin"),
    "seattle-weather": lambda: Table(local_data.seattle_weather(), "weather"),
    "diabetes": _bundled("diabetes", "regression"),
    "penguins-mass": lambda: Table(_penguins(), "body_mass_g", "regression"),
    "cars-mpg": lambda: Table(_cars(), "Miles_per_Gallon", "regression"),
    "barley": lambda: Table(local_data.barley(), "yield", "regression"),
}


def five(type: str) -> dict[str, Any]:
    """Plain estimators by name."""
    if type == "classification":
        return {
            "logistic_regression": LogisticRegression(max_iter=1_000),
            "random_forest": RandomForestClassifier(random_state=0),
            "gradient_boosting": GradientBoostingClassifier(random_state=0),
            "svm": SVC(),
            "nearest_neighbours": KNeighborsClassifier(),
        }
    return {
        "ridge": Ridge(),
        "random_forest": RandomForestRegressor(random_state=0),
        "gradient_boosting": GradientBoostingRegressor(random_state=0),
        "svm": SVR(),
        "nearest_neighbours": KNeighborsRegressor(),
    }


def split(table: Table, seed: int) -> tuple[Any, Any]:
    """The rows to learn from and those held out, as the hub splits them."""
    targets = table.known[table.target]
    stratify = targets if table.type == "classification" else None
    return train_test_split(
        np.arange(len(targets)), test_size=0.2, random_state=seed, stratify=stratify
    )


def plain_scores(table: Table, seed: int) -> dict[str, float]:
    """Each of the five, fitted and scored."""
    known = table.known
    x, y = known.drop(columns=table.target), known[table.target]
    for name in x.select_dtypes("datetime"):
        x[f"{name}.year"], x[f"{name}.day"] = x[name].dt.year, x[name].dt.day_of_year
        x = x.drop(columns=name)
    numbers = list(x.select_dtypes("number"))
    others = [name for name in x if name not in numbers]
    features = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (
            make_pipeline(
                SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
            ),
            others,
        ),
    )
    train, test = split(table, seed)
    scores = {}
    for name, estimator in five(table.type).items():
        pipeline = make_pipeline(clone(features), estimator)
        pipeline.fit(x.iloc[train], y.iloc[train])
        scores[name] = float(pipeline.score(x.iloc[test], y.iloc[test]))
    return scores


@contextmanager
def _reporting_to(file: Path) -> Iterator[None]:
    before = os.environ.get("MCP_HUB_EVENTS")
    os.environ["MCP_HUB_EVENTS"] = str(file)
    try:
        yield
    finally:
        os.environ.pop("MCP_HUB_EVENTS")
        if before is not None:
            os.environ["MCP_HUB_EVENTS"] = before


def auto_score(table: Table, seed: int, budget_s: float) -> tuple[float, float]:
    """The held-out score of a job with `auto=true`, checked ONNX and all; and its seconds."""
    with tempfile.TemporaryDirectory() as folder, _reporting_to(Path(folder) / "events"):
        file = Path(folder) / "data.parquet"
        values = table.frame.astype(object).where(table.frame.notna(), None).to_dict("list")
        pl.DataFrame(values, strict=False).write_parquet(file)
        task = TrainingTask(
            job_id="job", attempt=1, name="model", type=table.type, target=table.target,
            config={"auto": True, "budget_s": budget_s, "seed": seed}, dataset="data:1",
            dataset_file=file, dataset_format="parquet", dataset_options={}, folder=Path(folder),
        )  # fmt: skip
        began = time.monotonic()
        SklearnFramework().train(task, run)
        seconds = time.monotonic() - began
        events = map(json.loads, (Path(folder) / "events").read_text().splitlines())
        metric = "accuracy" if table.type == "classification" else "r2"
        scores = [e["value"] for e in events if e["type"] == "metric" and e["key"] == metric]
    return scores[-1], seconds


def seeds_of(table: Table) -> int:
    """How many seeds make up `HELD_OUT_ROWS`."""
    return max(MIN_SEEDS, -(-HELD_OUT_ROWS // len(split(table, 0)[1])))


def compare(name: str, count: int | None, budget_s: float) -> Result:
    """Auto and the five on one data set, with that many seeds, or as many as `seeds_of` says."""
    table = TABLES[name]()
    seeds = range(count or seeds_of(table))
    autos = [auto_score(table, seed, budget_s) for seed in seeds]
    plain = [plain_scores(table, seed) for seed in seeds]
    return Result(
        name,
        len(split(table, 0)[1]),
        [score for score, _ in autos],
        {estimator: [scores[estimator] for scores in plain] for estimator in plain[0]},
        [seconds for _, seconds in autos],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=20.0, help="budget_s of each job")
    parser.add_argument("--seeds", type=int, help="splits of each data set; else by its rows")
    parser.add_argument("--tables", nargs="*", default=list(TABLES), choices=list(TABLES))
    arguments = parser.parse_args()
    print(f"budget_s={arguments.budget:g}, means over the splits")
    print(
        f"{'data set':16}{'held out':>10}{'auto':>8}{'best of five':>30}{'lead':>8}{'error':>8}"
        f"{'oracle':>8}{'most s':>8}"
    )
    behind = []
    for name in arguments.tables:
        result = compare(name, arguments.seeds, arguments.budget)
        rows = f"{len(result.auto)} × {result.held_out}"
        best = f"{result.best} {np.mean(result.plain[result.best]):.4f}"
        print(
            f"{name:16}{rows:>10}{np.mean(result.auto):8.4f}{best:>30}{result.lead:+8.4f}"
            f"{result.error:8.4f}{result.oracle:8.4f}{max(result.seconds):8.1f}",
            flush=True,
        )
        if result.lead < -ALLOWED:
            behind.append(name)
    print(f"Behind by more than {ALLOWED:g}: {', '.join(behind) or 'none'}")


if __name__ == "__main__":
    main()
