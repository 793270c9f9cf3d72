"""Gates: what a version must show before an alias moves to it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.registry.views import GateResult, InputField, OutputField, Signature

Threshold = Annotated[float, Strict(), Field(allow_inf_nan=False)]
EvaluatedOn = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(:[0-9]{1,9})?$")]
_DIFFERENCES_SHOWN = 10
_MOST_THRESHOLDS = 50


class Gates(BaseModel):
    """The conditions of a promotion; every one that is given must hold."""

    model_config = ConfigDict(extra="forbid")

    min_metric: dict[str, Threshold] = Field(
        default={},
        max_length=_MOST_THRESHOLDS,
        description="Metric → the least value that passes",
    )
    max_metric: dict[str, Threshold] = Field(
        default={},
        max_length=_MOST_THRESHOLDS,
        description="Metric → the greatest value that passes",
    )
    better_than_current: str | None = Field(
        default=None,
        description="A metric in which it must beat the version that the alias points at",
    )
    same_signature: bool = Field(
        default=False,
        description="Inputs and outputs must match those of the version that the alias points at",
    )
    evaluated: bool | EvaluatedOn = Field(
        default=False,
        description="It must have an evaluation (model_evaluate); a data set's name or "
        "name:version: on that, and the metrics are those of that evaluation",
    )
    human_approval: bool = Field(
        default=False,
        description="A person must approve: the client asks its user, once all else has passed",
    )


def parse_gates(gates: Gates | Mapping[str, Any] | None) -> Gates:
    """The gates that a caller asked for; None is no gate.

    Raises:
        InvalidArgument: there is no such gate, or its value does not fit.
    """
    if gates is None:
        return Gates()
    if isinstance(gates, Gates):
        return gates
    for key in gates:
        if key not in Gates.model_fields:
            hint = names_hint(str(key), Gates.model_fields, "gates")
            raise InvalidArgument(f"There is no gate {key!r}.", hint)
    try:
        return Gates.model_validate(dict(gates))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidArgument(
            f"The gate {where} does not fit: {first['msg']}.",
            'Gates look like {"min_metric": {"accuracy": 0.9}, "max_metric": {"log_loss": 0.3}, '
            '"better_than_current": "accuracy", "same_signature": true, "evaluated": "holdout", '
            '"human_approval": true}.',
        ) from error


_LOWER_IS_BETTER = re.compile(
    r"(^|_)(mae|mse|rmse|rmsle|msle|mape|smape|medae|brier|perplexity|wer|cer|eer|fpr|fnr|"
    r"logloss|loss|error|errors|deviance|distance|latency|duration|seconds|ms|time|bytes|"
    r"entropy|nll|aic|bic|inertia|residual|residuals|davies_bouldin)($|_)"
)


def lower_is_better(metric: str) -> bool:
    """Whether less of this metric is better, told by the words of its name.

    Understands `rmse`, `val_loss`, `mean_absolute_error`, `logLoss`, `test/brier_score` and the
    like. A name that begins with `neg_`, as scikit-learn's scorers have it, is higher-is-better.
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", metric).lower().strip("_")
    if re.search(r"(^|_)neg_", words):
        return False
    return _LOWER_IS_BETTER.search(words) is not None


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the gates look at in a version."""

    version: int
    metrics: Mapping[str, float]
    signature: Signature
    evaluated_on: str | None = None
    """The data set, as name:version, of the evaluation that counts; its metrics are `metrics`
    where the gate names a data set."""
    scored_on: str | None = None
    """The data set, as name:version, that `metrics` are of, where it is known."""


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person said of a version's promotion."""

    version: int
    given: bool
    comment: str = ""


def evaluate(
    gates: Gates,
    alias: str,
    candidate: Candidate,
    current: Candidate | None,
    approval: Approval | None = None,
) -> list[GateResult]:
    """Judge `candidate` by every gate; `current` is the version that `alias` points at now."""
    results = [
        *_evaluated(gates.evaluated, candidate),
        *_thresholds("min_metric", gates.min_metric, candidate),
        *_thresholds("max_metric", gates.max_metric, candidate),
    ]
    if gates.better_than_current is not None:
        results.append(_better(gates.better_than_current, alias, candidate, current))
    if gates.same_signature:
        results.append(_same_signature(alias, candidate, current))
    if gates.human_approval:
        others_passed = all(result.passed for result in results)
        results.append(_approved(candidate, approval, others_passed))
    return results


def _evaluated(wanted: bool | str, candidate: Candidate) -> Iterator[GateResult]:
    if wanted is False:
        return
    passed = candidate.evaluated_on is not None
    where = "any data set" if wanted is True else wanted
    yield GateResult(
        gate="evaluated",
        passed=passed,
        expected=wanted,
        actual=candidate.evaluated_on,
        note=None
        if passed
        else f"version {candidate.version} has no evaluation on {where}: run model_evaluate",
    )


def _thresholds(
    gate: str, thresholds: Mapping[str, float], candidate: Candidate
) -> Iterator[GateResult]:
    for metric, threshold in thresholds.items():
        actual = candidate.metrics.get(metric)
        if actual is None:
            passed = False
        else:
            passed = actual >= threshold if gate == "min_metric" else actual <= threshold
        yield GateResult(
            gate=f"{gate}.{metric}",
            passed=passed,
            expected=threshold,
            actual=actual,
            note=_lacking(candidate, metric),
        )


def _better(metric: str, alias: str, candidate: Candidate, current: Candidate | None) -> GateResult:
    actual = candidate.metrics.get(metric)
    standing = None if current is None else current.metrics.get(metric)
    note = _lacking(candidate, metric)
    if actual is None:
        passed = False
    elif current is None:
        passed, note = True, f"{alias!r} is not set yet, so there is nothing to beat"
    elif current.version == candidate.version:
        passed, note = True, f"{alias!r} points at version {current.version} already"
    elif standing is None:
        passed, note = False, _lacking(current, metric)
    else:
        lower = lower_is_better(metric)
        passed = actual < standing if lower else actual > standing
        note = f"{'lower' if lower else 'higher'} is better; {alias!r} is version {current.version}"
        if candidate.scored_on != current.scored_on:
            note += (
                f"; mind that they were scored on {candidate.scored_on or 'unknown data'} and "
                f"{current.scored_on or 'unknown data'}: evaluated=DATASET judges both on one"
            )
    return GateResult(
        gate=f"better_than_current.{metric}",
        passed=passed,
        expected=standing,
        actual=actual,
        note=note,
    )


def _same_signature(alias: str, candidate: Candidate, current: Candidate | None) -> GateResult:
    if current is None:
        differences, note = [], f"{alias!r} is not set yet, so there is nothing to match"
    else:
        differences = signature_differences(current.signature, candidate.signature)
        note = f"compared with version {current.version}"
    shown = differences[:_DIFFERENCES_SHOWN]
    if len(shown) < len(differences):
        shown.append(f"and {len(differences) - len(shown)} more")
    return GateResult(
        gate="same_signature",
        passed=not differences,
        expected=True,
        actual=not differences,
        note="; ".join([note, *shown]),
    )


def _approved(candidate: Candidate, approval: Approval | None, others_passed: bool) -> GateResult:
    note: str | None
    if approval is None:
        why = "this client cannot ask anybody" if others_passed else "another gate failed"
        passed, note = False, f"nobody was asked: {why}"
    elif approval.version != candidate.version:
        passed, note = False, f"the answer was about version {approval.version}"
    else:
        passed, note = approval.given, approval.comment or None
    return GateResult(
        gate="human_approval",
        passed=passed,
        expected=True,
        actual=None if approval is None else approval.given,
        note=note,
    )


def signature_differences(before: Signature, after: Signature) -> list[str]:
    """How `after` differs for a caller of `before`, in words; inputs may come in any order."""
    return [
        *_differences("input", before.inputs, after.inputs, ("dtype", "shape", "kind")),
        *_differences("output", before.outputs, after.outputs, ("dtype", "shape", "classes")),
    ]


def _differences(
    what: str,
    before: Sequence[InputField] | Sequence[OutputField],
    after: Sequence[InputField] | Sequence[OutputField],
    aspects: Sequence[str],
) -> Iterator[str]:
    old = {field.name: field for field in before}
    new = {field.name: field for field in after}
    if missing := sorted(old.keys() - new.keys()):
        yield f"{what} gone: {', '.join(missing)}"
    if added := sorted(new.keys() - old.keys()):
        yield f"{what} added: {', '.join(added)}"
    for name, field in old.items():
        for aspect in aspects if name in new else ():
            was, now = getattr(field, aspect), getattr(new[name], aspect)
            # repr, because True == 1 == 1.0 and as classes these differ.
            if repr(was) != repr(now):
                yield f"{what} {name!r}: {aspect} {_short(was)} became {_short(now)}"


def _short(value: Any) -> str:
    return shorten(repr(value), 80, placeholder=" …")


def _lacking(candidate: Candidate, metric: str) -> str | None:
    if metric in candidate.metrics:
        return None
    hint = names_hint(metric, candidate.metrics, "metrics")
    where = f" on {candidate.evaluated_on}" if candidate.evaluated_on else ""
    return f"version {candidate.version} has no metric {metric!r}{where}. {hint}"
