"""`auto=true`: the portfolio, its budget, its leaderboard, and what it makes of it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression, Ridge

from benchmarks.auto import ALLOWED, compare
from mcp_hub.adapters.errors import LimitExceeded
from mcp_hub.services.training.frameworks.sklearn import SklearnConfig, portfolio
from mcp_hub.services.training.frameworks.sklearn.estimators import EstimatorType

from .conftest import Train

Numbers = Callable[..., pl.DataFrame]


class Sleeper(LogisticRegression):
    """Takes far longer than any budget."""

    def fit(self, x: Any, y: Any) -> "Sleeper":
        time.sleep(600)
        return self


class Tiring(LogisticRegression):
    """Takes far longer than any budget at its sixth fit, and is always wrong, so that it is never
    chosen. Each fit is a byte of `fits`."""

    fits = Path()

    def fit(self, x: Any, y: Any) -> "Tiring":
        with self.fits.open("ab") as file:
            file.write(b".")
        if self.fits.stat().st_size == 6:
            time.sleep(600)
        return super().fit(x, 1 - y)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A portfolio of three that fit at once."""
    settings = (
        ("logistic_regression", {}), ("decision_tree", {"max_depth": 1}),
        ("naive_bayes", {}), ("svm", {}),
    )  # fmt: skip
    monkeypatch.setattr(portfolio, "_CLASSIFIERS", settings)
    monkeypatch.setattr(portfolio, "_REGRESSORS", (("ridge", {}), ("svm", {"C": 10.0})))


@pytest.mark.usefixtures("quick")
def test_the_leaderboard_and_what_is_told(train: Train, numbers: Numbers) -> None:
    result = train(numbers(120), auto=True, budget_s=60)
    board = result.artifact("leaderboard.json")
    assert (board["metric"], board["folds"], board["budget_s"]) == ("accuracy", 10, 60)
    singles = [row for row in board["candidates"] if "+" not in row["candidate"]]
    assert {row["candidate"] for row in singles} == {
        "logistic_regression", "decision_tree(max_depth=1)", "svm",
    }  # fmt: skip
    scores = [row["score"] for row in singles]
    assert scores == sorted(scores, reverse=True)
    assert all(row["spread"] >= 0 and row["fit_s"] > 0 and not row["skipped"] for row in singles)
    assert result.params["leaderboard"] == board["candidates"]
    assert result.params["estimator"] == "+".join(board["chosen"])
    assert (result.params["candidates_tried"], result.params["candidates_skipped"]) == (
        len(board["candidates"]), 0,
    )  # fmt: skip
    assert result.metrics["cv_accuracy"] == pytest.approx(board["candidates"][0]["score"], abs=0.05)
    best_so_far = [score for _, score in result.series("cv_accuracy")[:-1]]
    assert best_so_far == sorted(best_so_far)
    done = [event["done"] for event in result.of("progress")]
    assert (done[0], done[-1]) == (0, result.of("progress")[0]["total"])
    assert result.params["agreement"]["difference"] <= 1e-4


@pytest.mark.usefixtures("quick")
def test_importances_are_of_raw_columns_on_held_out_rows(train: Train, numbers: Numbers) -> None:
    frame = numbers(300).with_columns(place=pl.Series(["north", "south"] * 150))
    result = train(frame, auto=True)
    found = result.artifact("importances.json")
    assert (found["metric"], found["rows"], found["repeats"]) == ("accuracy", 60, 5)
    means = {column["column"]: column["mean"] for column in found["columns"]}
    assert set(means) == {"a", "b", "c", "place"}
    assert list(means.values()) == sorted(means.values(), reverse=True)
    assert means["a"] > 0.1 > abs(means["place"])
    assert list(result.params["importances"]) == list(means)
    assert found["left_out"] == []


@pytest.mark.usefixtures("quick")
def test_near_equals_vote_and_the_vote_is_served(train: Train, numbers: Numbers) -> None:
    frame = numbers(200).with_columns(y=pl.col("a") * 3 + pl.col("b").sin() + 100)
    voted = train(frame, type="regression", auto=True)
    rows = frame.drop("y").head(5).to_dicts()
    (values,) = voted.predict(rows)
    np.testing.assert_allclose(values[:, 0], frame["y"].head(5), atol=0.6)
    noise = np.random.default_rng(1).normal(size=300) * 2
    frame = numbers(300)
    frame = frame.with_columns(y=pl.Series(np.where(frame["a"] + noise > 0, "up", "down")))
    result = train(frame, auto=True)
    assert result.params["estimator"].count("+") >= 1
    assert len(result.params["params"]) == result.params["estimator"].count("+") + 1
    labels, probabilities = result.predict(frame.drop("y").to_dicts())
    assert (labels == frame["y"].to_numpy()).mean() > 0.6
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.usefixtures("quick")
def test_the_same_seed_gives_the_same_model(train: Train, numbers: Numbers) -> None:
    first, second = (train(numbers(90), auto=True, seed=5) for _ in range(2))
    files = [(result.folder / "model.onnx").read_bytes() for result in (first, second)]
    assert files[0] == files[1]
    assert first.params["estimator"] == second.params["estimator"]


@pytest.mark.usefixtures("quick")
def test_a_candidate_that_overruns_is_killed(
    train: Train, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(portfolio.CLASSIFIERS, "svm", EstimatorType(Sleeper))
    began = time.monotonic()
    result = train(numbers(), auto=True, budget_s=12)
    assert time.monotonic() - began < 12 * 1.2
    rows = {row["candidate"]: row for row in result.artifact("leaderboard.json")["candidates"]}
    stopped = rows["svm"]
    assert (stopped["score"], stopped["skipped"]) == (
        None, "stopped: over its time after 0 of the folds",
    )  # fmt: skip
    assert rows["logistic_regression"]["score"] > 0.8
    assert result.params["candidates_skipped"] >= 1


@pytest.mark.usefixtures("quick")
def test_all_are_judged_by_the_same_folds(
    train: Train, numbers: Numbers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Tiring, "fits", tmp_path / "fits")
    monkeypatch.setitem(portfolio.CLASSIFIERS, "svm", EstimatorType(Tiring))
    result = train(numbers(), auto=True, budget_s=8)
    board = result.artifact("leaderboard.json")
    assert board["folds"] == 5
    assert all(row["score"] is not None for row in board["candidates"])


def test_a_budget_too_short_for_anything_says_so(
    train: Train, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portfolio, "_CLASSIFIERS", (("svm", {}),))
    monkeypatch.setitem(portfolio.CLASSIFIERS, "svm", EstimatorType(Sleeper))
    began = time.monotonic()
    with pytest.raises(LimitExceeded, match="No candidate was done within budget_s=2"):
        train(numbers(), auto=True, budget_s=2)
    assert time.monotonic() - began < 2 * 1.2


def test_a_candidate_that_fails_is_told_and_passed_over(
    train: Train, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portfolio, "_REGRESSORS", (("ridge", {}), ("lasso", {"alpha": -1.0})))
    frame = numbers(80).with_columns(y=pl.col("a") * 3)
    result = train(frame, type="regression", auto=True)
    (failed,) = [row for row in result.artifact("leaderboard.json")["candidates"] if row["skipped"]]
    assert failed["candidate"] == "lasso(alpha=-1.0)"
    assert "Lasso refused its params" in failed["skipped"]
    assert result.params["estimator"] == Ridge.__name__.lower()


@pytest.mark.usefixtures("quick")
def test_of_twelve_rows_each_fold_has_enough_to_score(train: Train, numbers: Numbers) -> None:
    frame = numbers(12).with_columns(y=pl.col("a") * 3)
    result = train(frame, type="regression", auto=True)
    board = result.artifact("leaderboard.json")
    assert (board["folds"], board["metric"]) == (8, "r2")
    assert all(row["score"] is not None for row in board["candidates"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"auto": True, "estimator": "svm"}, "auto=true chooses the estimator itself"),
        ({"auto": True, "params": {"C": 1}}, "auto takes none"),
        ({"auto": True, "cv": 0}, "compares by cross-validation"),
        ({"budget_s": 10}, "budget_s is for auto=true"),
        ({"auto": True, "budget_s": 1}, "greater than or equal to 2"),
    ],
)
def test_what_does_not_go_together(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SklearnConfig.model_validate(config)


def test_it_does_as_well_as_the_best_of_five() -> None:
    """A small part of `benchmarks/auto.py`: of sets that are quick to learn."""
    result = compare("iris", 2, budget_s=8)
    # A row more or less of so few tells nothing.
    assert result.lead >= -ALLOWED - 1 / (result.held_out * len(result.auto)), result
    assert max(result.seconds) <= 8 * 1.2
    result = compare("barley", 1, budget_s=8)
    assert result.lead >= -ALLOWED, result
