from dataclasses import replace
from typing import Any

import pytest

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.registry.gates import (
    Approval,
    Candidate,
    Gates,
    evaluate,
    lower_is_better,
    parse_gates,
    signature_differences,
)
from mcp_hub.services.registry.views import GateResult, InputField, OutputField, Signature

from .conftest import SIGNATURE


def candidate(version: int = 2, /, signature: Signature = SIGNATURE, **metrics: float) -> Candidate:
    return Candidate(version, metrics, signature)


def judge(
    gates: dict[str, Any], new: Candidate, current: Candidate | None = None
) -> list[GateResult]:
    return evaluate(parse_gates(gates), "champion", new, current)


@pytest.mark.parametrize(
    "metric",
    [
        "rmse", "mae", "mse", "test_rmse", "RMSE", "loss", "val_loss", "valLoss", "log_loss",
        "logLoss", "mean_absolute_error", "max_error", "brier_score_loss", "val/loss", "mape",
        "perplexity", "latency_ms", "fit_seconds", "cross_entropy", "MeanSquaredError",
        "davies_bouldin", "cv_davies_bouldin",
    ],
)  # fmt: skip
def test_less_of_these_is_better(metric: str) -> None:
    assert lower_is_better(metric)


@pytest.mark.parametrize(
    "metric",
    [
        "accuracy", "f1", "f1_macro", "roc_auc", "r2", "precision", "recall", "neg_log_loss",
        "neg_mean_absolute_error", "mcc", "explained_variance", "glossary", "timeliness", "terror",
    ],
)  # fmt: skip
def test_more_of_these_is_better(metric: str) -> None:
    assert not lower_is_better(metric)


@pytest.mark.parametrize(
    ("gates", "message", "hint"),
    [
        ({"min_metrics": {}}, "no gate 'min_metrics'", "Did you mean 'min_metric'?"),
        ({"accuracy": 0.9}, "no gate 'accuracy'", "better_than_current, evaluated, human_approval"),
        ({"min_metric": {"accuracy": "high"}}, "min_metric.accuracy", '{"accuracy": 0.9}'),
        ({"min_metric": {"accuracy": True}}, "min_metric.accuracy", '{"accuracy": 0.9}'),
        ({"min_metric": {"accuracy": float("nan")}}, "min_metric.accuracy", '{"accuracy": 0.9}'),
        ({"min_metric": 0.9}, "min_metric", '{"accuracy": 0.9}'),
        ({"better_than_current": True}, "better_than_current", '"better_than_current": "acc'),
        ({"same_signature": "maybe"}, "same_signature", '"same_signature": true'),
    ],
)
def test_other_gates_are_refused(gates: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_gates(gates)
    assert message in refused.value.message
    assert hint in (refused.value.hint or "")


def test_no_gates_are_no_results() -> None:
    assert parse_gates(None) == parse_gates({}) == Gates()
    assert judge({"same_signature": False}, candidate()) == []


def test_every_gate_is_judged_in_order() -> None:
    gates = {
        "min_metric": {"accuracy": 0.9, "f1": 0.8},
        "max_metric": {"log_loss": 0.3},
        "better_than_current": "accuracy",
        "same_signature": True,
    }
    new = candidate(2, accuracy=0.9, f1=0.7, log_loss=0.31)
    results = judge(gates, new, candidate(1, accuracy=0.8))
    assert [(r.gate, r.passed, r.expected, r.actual) for r in results] == [
        ("min_metric.accuracy", True, 0.9, 0.9),
        ("min_metric.f1", False, 0.8, 0.7),
        ("max_metric.log_loss", False, 0.3, 0.31),
        ("better_than_current.accuracy", True, 0.8, 0.9),
        ("same_signature", True, True, True),
    ]


@pytest.mark.parametrize("gate", ["min_metric", "max_metric"])
def test_a_metric_that_is_lacking_fails_and_names_those_there_are(gate: str) -> None:
    [result] = judge({gate: {"acuracy": 0.9}}, candidate(2, accuracy=0.95, f1=0.9))
    assert (result.passed, result.actual) == (False, None)
    assert "version 2 has no metric 'acuracy'" in (result.note or "")
    assert "Did you mean 'accuracy'? Existing metrics: accuracy, f1" in (result.note or "")


@pytest.mark.parametrize(
    ("metric", "now", "before", "passed"),
    [
        ("accuracy", 0.91, 0.9, True),
        ("accuracy", 0.9, 0.9, False),
        ("accuracy", 0.89, 0.9, False),
        ("rmse", 1.0, 1.1, True),
        ("rmse", 1.1, 1.1, False),
        ("rmse", 1.2, 1.1, False),
    ],
)
def test_better_is_strict_and_knows_the_direction(
    metric: str, now: float, before: float, passed: bool
) -> None:
    new, current = candidate(2, **{metric: now}), candidate(1, **{metric: before})
    [result] = judge({"better_than_current": metric}, new, current)
    assert (result.passed, result.expected, result.actual) == (passed, before, now)
    assert f"{'lower' if metric == 'rmse' else 'higher'} is better" in (result.note or "")


def test_better_passes_where_there_is_nothing_to_beat() -> None:
    [result] = judge({"better_than_current": "accuracy"}, candidate(accuracy=0.1))
    assert (result.passed, result.expected) == (True, None)
    assert "not set yet" in (result.note or "")


def test_better_passes_for_the_version_that_is_there_already() -> None:
    [result] = judge({"better_than_current": "f1"}, candidate(2, f1=0.5), candidate(2, f1=0.5))
    assert result.passed
    assert "already" in (result.note or "")


def test_better_fails_where_either_version_lacks_the_metric() -> None:
    [new] = judge({"better_than_current": "f1"}, candidate(2), candidate(1, f1=0.5))
    assert (new.passed, new.actual) == (False, None)
    assert "version 2 has no metric" in (new.note or "")
    [old] = judge({"better_than_current": "f1"}, candidate(2, f1=0.5), candidate(1, accuracy=0.1))
    assert (old.passed, old.expected, old.actual) == (False, None, 0.5)
    assert "version 1 has no metric" in (old.note or "")
    [unset] = judge({"better_than_current": "f1"}, candidate(2))
    assert not unset.passed


def changed(**changes: Any) -> Signature:
    own = SIGNATURE.inputs[0].model_copy(update=changes)
    return Signature(inputs=[own], outputs=SIGNATURE.outputs)


@pytest.mark.parametrize(
    ("signature", "difference"),
    [
        (changed(name="y"), "input gone: x"),
        (changed(name="y"), "input added: y"),
        (changed(dtype="float64"), "input 'x': dtype 'float32' became 'float64'"),
        (changed(shape=[None, 2]), "input 'x': shape [None, 1] became [None, 2]"),
        (changed(kind="tensor"), "input 'x': kind 'number' became 'tensor'"),
        (Signature(inputs=SIGNATURE.inputs, outputs=[]), "output gone: label"),
    ],
)
def test_another_signature_fails_and_says_how_it_differs(
    signature: Signature, difference: str
) -> None:
    [result] = judge({"same_signature": True}, candidate(2, signature=signature), candidate(1))
    assert not result.passed
    assert difference in (result.note or "")


def test_classes_belong_to_the_signature() -> None:
    def with_classes(*classes: Any) -> Signature:
        output = OutputField(name="p", dtype="float32", shape=[None, 2], classes=list(classes))
        return Signature(inputs=[], outputs=[output])

    assert signature_differences(with_classes(0, 1), with_classes(0, 1)) == []
    assert signature_differences(with_classes(0, 1), with_classes(False, True))
    assert signature_differences(with_classes("a", "b"), with_classes("a", "c"))


def test_the_order_of_inputs_does_not_matter() -> None:
    x, y = (InputField(name=name, dtype="float32", shape=[None, 1]) for name in "xy")
    assert not signature_differences(
        Signature(inputs=[x, y], outputs=[]), Signature(inputs=[y, x], outputs=[])
    )


def test_many_differences_are_cut() -> None:
    wide = Signature(
        inputs=[InputField(name=f"c{i}", dtype="float32", shape=[None, 1]) for i in range(500)],
        outputs=[],
    )
    narrow = Signature(
        inputs=[field.model_copy(update={"dtype": "int64"}) for field in wide.inputs], outputs=[]
    )
    [result] = judge(
        {"same_signature": True}, candidate(2, signature=narrow), candidate(1, signature=wide)
    )
    assert "and 490 more" in (result.note or "")
    assert len(result.note or "") < 2000


@pytest.mark.parametrize(
    ("approval", "passed", "actual", "note"),
    [
        (None, False, None, "nobody was asked: this client cannot ask anybody"),
        (Approval(2, True, "fine"), True, True, "fine"),
        (Approval(2, True), True, True, ""),
        (Approval(2, False, "not yet"), False, False, "not yet"),
        (Approval(1, True), False, True, "the answer was about version 1"),
    ],
)
def test_a_person_approves_one_version(
    approval: Approval | None, passed: bool, actual: bool | None, note: str
) -> None:
    [result] = evaluate(Gates(human_approval=True), "champion", candidate(2), None, approval)
    assert (result.gate, result.passed, result.actual) == ("human_approval", passed, actual)
    assert note in (result.note or "")


def test_nobody_is_asked_where_another_gate_failed() -> None:
    gates = Gates(human_approval=True, min_metric={"f1": 0.9})
    results = evaluate(gates, "champion", candidate(2, f1=0.5), None)
    assert results[-1].note == "nobody was asked: another gate failed"


def test_scores_on_different_data_are_compared_and_that_is_said() -> None:
    new = replace(candidate(2, f1=0.9), scored_on="easy:1")
    current = replace(candidate(1, f1=0.5), scored_on="hard:1")
    [result] = judge({"better_than_current": "f1"}, new, current)
    assert result.passed
    assert "scored on easy:1 and hard:1: evaluated=DATASET" in (result.note or "")
    [alike] = judge({"better_than_current": "f1"}, new, replace(current, scored_on="easy:1"))
    assert "mind" not in (alike.note or "")
