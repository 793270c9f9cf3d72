"""`auto=true`: the portfolio cross-validated within a budget, each candidate in a child process.

A candidate that overruns is killed, in whatever library it is. Which candidates are reached, and
whether there is time to try them on other folds too, depends on the machine; what each scores, and
what is chosen among them, only on the seed.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_hub.adapters.errors import HubError, InvalidArgument, LimitExceeded
from mcp_hub.services.training.frameworks.sklearn import SklearnConfig
from mcp_hub.services.training.frameworks.sklearn.estimators import EstimatorType
from mcp_hub.services.training.frameworks.sklearn.fitting import Fold, Steps, fit
from mcp_hub.services.training.frameworks.sklearn.portfolio import estimator_of
from mcp_hub.services.training.frameworks.sklearn.voting import mean_of
from mcp_hub.services.training.frameworks.tabular.features import Encoded, Features
from mcp_hub.services.training.frameworks.tabular.reports import Predicted, gain, measure
from mcp_hub.services.training.frameworks.tabular.rows import Data
from mcp_hub.services.training.run import Run

DEFAULT_BUDGET_S = 60.0
_SEARCH = 0.65
"""The share of the budget for the search; the last fit, importances and export have the rest."""
_ONE = 0.4
"""What one candidate may take of the time that the search has left."""
_AGAIN = 0.8
"""What trying all again may be expected to take of it."""
_REFIT = 0.6
"""What the last fit may be expected to take of the time left."""
_MAX_VOTERS = 3
_TOLD = 10


class Budget:
    """So many seconds from now on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began = monotonic()

    def left(self, share: float = 1.0) -> float:
        """Seconds until that share of it is spent; negative after."""
        return self._began + self.seconds * share - monotonic()


@dataclass(slots=True)
class Standing:
    """How a candidate did: a score, its predictions and the seconds of its fit for each fold."""

    scores: list[float] = field(default_factory=list)
    predicted: list[Predicted] = field(default_factory=list)
    fit_s: list[float] = field(default_factory=list)
    skipped: str | None = None

    def extend(self, other: "Standing") -> None:
        """Add what it did on further folds."""
        self.scores += other.scores
        self.predicted += other.predicted
        self.fit_s += other.fit_s


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A fold with its features made, for all candidates alike."""

    features: Features
    encoded: Encoded
    learned: Data
    encoded_held_out: Encoded
    expected: NDArray[Any]


class Search:
    """Cross-validates the candidates one after the other, and chooses."""

    def __init__(
        self, config: SklearnConfig, metric: str, run: Run, steps: Steps, budget: Budget
    ) -> None:
        self._config = config
        self._metric = metric
        self._run = run
        self._steps = steps
        self._budget = budget
        self._standings: dict[str, Standing] = {}
        self._folds: list[_Prepared] = []
        self._classes = 0
        self._took_s = 0.0

    def cross_validate(
        self, candidates: Mapping[str, EstimatorType], data: Data, folds: Sequence[Fold]
    ) -> None:
        """Try the candidates in their order; reports the best mean so far as `cv_METRIC`."""
        began = monotonic()
        self._classes = data.classes
        self._folds = self._prepared(data, folds)
        best: float | None = None
        for number, (name, kind) in enumerate(candidates.items()):
            standing = self._standings[name] = Standing()
            self._try(kind, standing)
            self._steps.advance(len(folds) - len(standing.scores))
            if standing.skipped:
                self._run.log(f"{name}: {standing.skipped}.")
                continue
            mean = float(np.mean(standing.scores))
            self._run.log(
                f"{name}: {self._metric} {mean:.4f}, {np.mean(standing.fit_s):.2f} s a fit."
            )
            best = mean if best is None or gain(self._metric, mean, best) > 0 else best
            self._run.metric(f"cv_{self._metric}", best, step=number)
        self._took_s = monotonic() - began

    def repeat(
        self, candidates: Mapping[str, EstimatorType], data: Data, folds: Sequence[Fold]
    ) -> None:
        """Try those that have scores again, on other folds, if the budget has time for all: the
        choice then hangs less on where the rows fell."""
        done = self._ranked()
        planned = len(candidates) * len(folds)
        if not done or self._took_s > self._budget.left(_SEARCH) * _AGAIN:
            self._steps.advance(planned)
            return
        before, self._folds = self._folds, self._prepared(data, folds)
        again: dict[str, Standing] = {}
        for name in done:
            self._try(candidates[name], again.setdefault(name, Standing()))
            if again[name].skipped:
                break
        self._steps.advance(planned - sum(len(standing.scores) for standing in again.values()))
        if any(standing.skipped for standing in again.values()):
            # Only what was judged by the same folds can be compared.
            self._folds = before
            return
        self._folds = before + self._folds
        for name, standing in again.items():
            self._standings[name].extend(standing)
        self._run.log(f"Tried again on other folds, {len(self._folds)} in all.")

    def choose(self, rows: int) -> list[str]:
        """The candidate, or up to three to vote, to fit on that many rows.

        Best is the mean over the folds, and among equals the log loss; of one estimator's settings
        the first that its best leads by no more than the standard error of that lead, which folds
        that are hard for both leave alone. The next best of other estimators vote with it, unless
        the mean of them is worse than the best by more than its standard error: a mean varies less
        from one draw of rows to the next. What cannot be expected to be fitted in the time left is
        passed over.

        Raises:
            LimitExceeded: the budget was too short for any candidate.
            InvalidArgument: none could be fitted, or the metric is defined on no fold.
        """
        ranked = self._ranked()
        if not ranked:
            raise self._nothing_finished()
        allowed_s = self._budget.left() * _REFIT
        needs = {name: self._refit_s(name, rows) for name in ranked}
        able = [name for name in ranked if needs[name] <= allowed_s]
        if not able:
            cheapest = min(ranked, key=lambda name: needs[name])
            raise LimitExceeded(
                f"A fit on all {rows} rows would take about {needs[cheapest]:.0f} s, more than "
                f"budget_s={self._budget.seconds:g} leaves.",
                "Give a larger budget_s.",
            )
        able = self._plainest(able)
        best = self._key(able[:1])[0]
        error = _standard_error(self._standings[able[0]].scores)
        chosen = able[:1]
        for name in able[1:]:
            together = [*chosen, name]
            fit = len(together) <= _MAX_VOTERS and sum(needs[one] for one in together) <= allowed_s
            if fit and self._key(together)[0] >= best - error:
                chosen = together
        return chosen

    def _plainest(self, ranked: Sequence[str]) -> list[str]:
        """One candidate of each estimator: the first tried that its best does not clearly lead."""
        chosen = []
        for estimator in dict.fromkeys(estimator_of(name) for name in ranked):
            own = [name for name in ranked if estimator_of(name) == estimator]
            tried = [name for name in self._standings if name in own]
            chosen.append(next(name for name in tried if not self._clearly_leads(own[0], name)))
        return sorted(chosen, key=lambda name: self._key([name]), reverse=True)

    def _clearly_leads(self, name: str, other: str) -> bool:
        """Whether it is better by more than a standard error of the folds' differences."""
        pairs = zip(self._standings[name].scores, self._standings[other].scores, strict=True)
        leads = [gain(self._metric, score, other_score) for score, other_score in pairs]
        return float(np.mean(leads)) > _standard_error(leads)

    def report(self, chosen: Sequence[str]) -> None:
        """The chosen mean, those of the best three, and the head of the leaderboard."""
        rows = self.leaderboard(chosen)["candidates"]
        scored = [row for row in rows if row["score"] is not None]
        for row in scored[:3]:
            self._run.metric(f"cv_{self._metric}.{row['candidate']}", row["score"])
        self._run.metric(f"cv_{self._metric}", float(np.mean(self._scores(chosen))))
        self._run.param("leaderboard", rows[:_TOLD])
        self._run.param("candidates_tried", len(scored))
        self._run.param("candidates_skipped", len(rows) - len(scored))

    def leaderboard(self, chosen: Sequence[str]) -> dict[str, Any]:
        """`{metric, folds, budget_s, chosen, candidates}`, the best candidate first.

        Each candidate: `{candidate, score, spread, fit_s, skipped}`: mean and standard deviation
        over the folds, mean seconds of a fit, and why it has no score.
        """
        rows = [self._row(name, self._scores([name])) for name in self._ranked()]
        if len(chosen) > 1:
            rows.insert(0, self._row("+".join(chosen), self._scores(chosen)))
        rows += [
            {"candidate": name, "score": None, "spread": None, "fit_s": None, "skipped": reason}
            for name, standing in self._standings.items()
            if (reason := standing.skipped)
        ]
        return {
            "metric": self._metric, "folds": len(self._folds), "budget_s": self._budget.seconds,
            "chosen": list(chosen), "candidates": rows,
        }  # fmt: skip

    def _prepared(self, data: Data, folds: Sequence[Fold]) -> list[_Prepared]:
        prepared = []
        for fit_rows, test_rows in folds:
            learned, held_out = data.part(fit_rows), data.part(test_rows)
            if data.classes and len(np.unique(learned.target.values)) < 2:
                continue
            features = Features(data.inputs, self._config.max_text_features)
            encoded = features.fit(learned.arrays)
            others = features.transform(held_out.arrays)
            prepared.append(_Prepared(features, encoded, learned, others, held_out.target.values))
        return prepared

    def _try(self, kind: EstimatorType, standing: Standing) -> None:
        left_s = self._budget.left(_SEARCH)
        if left_s <= 0:
            standing.skipped = "not tried: the budget was spent"
            return
        stop_at = monotonic() + left_s * _ONE
        with self._child(kind) as results:
            for done, prepared in enumerate(self._folds):
                expected_s = sum(standing.fit_s) / max(done, 1) * (len(self._folds) - done)
                if monotonic() + expected_s > stop_at:
                    standing.skipped = f"stopped: {len(self._folds)} fits take too long"
                    return
                if not results.poll(max(0.0, stop_at - monotonic())):
                    standing.skipped = f"stopped: over its time after {done} of the folds"
                    return
                try:
                    predicted, seconds = results.recv()
                except EOFError:
                    standing.skipped = "failed: its process ended"
                    return
                if isinstance(predicted, str):
                    standing.skipped = f"failed: {predicted}"
                    return
                score = measure(self._metric, prepared.expected, predicted)
                if score is None:
                    standing.skipped = f"{self._metric} is not defined on a fold"
                    return
                standing.scores.append(score)
                standing.predicted.append(predicted)
                standing.fit_s.append(seconds)
                self._steps.advance()

    @contextmanager
    def _child(self, kind: EstimatorType) -> Iterator[Connection]:
        """A process that sends what it made of each fold, killed at the end of the body."""
        context = get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=_fit_folds, args=(kind, self._folds, self._config, self._classes, sender)
        )
        process.start()
        sender.close()
        try:
            yield receiver
        finally:
            process.kill()
            process.join()
            process.close()
            receiver.close()

    def _ranked(self) -> list[str]:
        """The candidates that have a score on every fold, best first."""
        done = [name for name, s in self._standings.items() if s.scores and not s.skipped]
        return sorted(done, key=lambda name: self._key([name]), reverse=True)

    def _key(self, names: Sequence[str]) -> tuple[float, float]:
        """What orders candidates: the mean score, greater is better, then the log loss."""
        mean = gain(self._metric, float(np.mean(self._scores(names))), 0.0)
        losses = [
            measure("log_loss", prepared.expected, self._together(names, fold))
            for fold, prepared in enumerate(self._folds if self._classes else [])
        ]
        return round(mean, 9), -float(np.mean([loss or 0.0 for loss in losses] or [0.0]))

    def _scores(self, names: Sequence[str]) -> list[float]:
        if len(names) == 1:
            return self._standings[names[0]].scores
        scores = [
            measure(self._metric, prepared.expected, self._together(names, fold))
            for fold, prepared in enumerate(self._folds)
        ]
        return [score for score in scores if score is not None]

    def _together(self, names: Sequence[str], fold: int) -> Predicted:
        return mean_of([self._standings[name].predicted[fold] for name in names])

    def _refit_s(self, name: str, rows: int) -> float:
        """About what a fit on that many rows takes; support vectors grow with the square."""
        more = rows / len(self._folds[0].learned)
        power = 2 if estimator_of(name) == "svm" else 1
        return float(np.mean(self._standings[name].fit_s)) * more**power

    def _row(self, name: str, scores: Sequence[float]) -> dict[str, Any]:
        standing = self._standings.get(name)
        return {
            "candidate": name, "score": round(float(np.mean(scores)), 6),
            "spread": round(float(np.std(scores)), 6),
            "fit_s": round(float(np.mean(standing.fit_s)), 3) if standing else None,
            "skipped": None,
        }  # fmt: skip

    def _nothing_finished(self) -> HubError:
        reasons = {name: s.skipped for name, s in self._standings.items()}
        if any((reason or "").startswith("stopped") for reason in reasons.values()):
            return LimitExceeded(
                f"No candidate was done within budget_s={self._budget.seconds:g}.",
                "Give a larger budget_s, fewer folds (cv), or name an estimator.",
            )
        shown = "; ".join(f"{name}: {reason}" for name, reason in [*reasons.items()][:5])
        return InvalidArgument(
            f"No candidate could be scored by {self._metric}: {shown or 'folds lack classes'}.",
            "Select by another metric, or give more rows"
            + (" of the rare classes." if self._classes else "."),
        )


def _standard_error(values: Sequence[float]) -> float:
    """Of their mean."""
    return float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


def _fit_folds(
    kind: EstimatorType,
    folds: Sequence[_Prepared],
    config: SklearnConfig,
    classes: int,
    sender: Connection,
) -> None:
    """Send (predictions, seconds) for each fold, or (what went wrong, seconds) and end."""
    # Those of the fit that is kept are told.
    warnings.simplefilter("ignore")
    for prepared in folds:
        began = monotonic()
        try:
            model = fit(prepared.features, prepared.encoded, prepared.learned, kind, config)
            seconds = monotonic() - began
            sender.send((model.predict(prepared.encoded_held_out, classes), seconds))
        except HubError as error:
            sender.send((error.message, monotonic() - began))
            return
        except MemoryError:
            sender.send(("it ran out of memory", monotonic() - began))
            return
