from typing import Any

import numpy as np
import pytest

from mcp_hub.adapters.errors import LimitExceeded
from mcp_hub.services.inference.decoding import decode_outputs, wanted_outputs
from mcp_hub.services.registry.views import OutputField, Scalar


def label(dtype: str = "int64") -> OutputField:
    return OutputField(name="label", dtype=dtype, shape=[None], role="prediction")


def table(*classes: Scalar) -> OutputField:
    return OutputField(
        name="probabilities",
        dtype="float32",
        shape=[None, len(classes)],
        role="probabilities",
        classes=list(classes) or None,
    )


def floats(*values: Any) -> Any:
    return np.array(values, dtype=np.float32)


PROBABILITIES = floats([0.25, 0.75], [0.9, 0.1])


@pytest.mark.parametrize(
    ("classes", "labels", "predictions"),
    [
        (("no", "yes"), np.array(["yes", "no"], dtype=object), ["yes", "no"]),
        ((3, 7), np.array([7, 3]), [7, 3]),
        ((False, True), np.array([1, 0]), [True, False]),
        ((False, True), np.array([True, False]), [True, False]),
        ((1.0, 2.0), np.array([2, 1]), [2.0, 1.0]),
        # Labels that are no classes: the greatest probability decides.
        (("no", "yes"), np.array([1, 0]), ["yes", "no"]),
        ((3, 7), np.array([1, 0]), [7, 3]),
        ((False, True), np.array(["True", "False"], dtype=object), [True, False]),
        # [n, 1] is the same as [n].
        ((3, 7), np.array([[7], [3]]), [7, 3]),
    ],
)
def test_labels_become_classes(
    classes: tuple[Scalar, ...], labels: Any, predictions: list[Scalar]
) -> None:
    decoded = decode_outputs([label(), table(*classes)], [labels, PROBABILITIES])
    assert decoded.predictions == predictions
    assert list(map(type, decoded.predictions)) == list(map(type, predictions))


def test_a_label_wins_over_the_greatest_probability() -> None:
    decoded = decode_outputs([label(), table(3, 7)], [np.array([3, 3]), PROBABILITIES])
    assert decoded.predictions == [3, 3]


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (("a", "b"), ["a", "b"]),
        ((3, 7), ["3", "7"]),
        ((False, True), ["false", "true"]),
        ((0.5, 1.0), ["0.5", "1.0"]),
    ],
)
def test_probabilities_have_the_names_of_their_classes(
    classes: tuple[Scalar, ...], names: list[str]
) -> None:
    decoded = decode_outputs([table(*classes)], [PROBABILITIES])
    assert decoded.probabilities == [
        dict(zip(names, [0.25, 0.75], strict=True)),
        dict(zip(names, [0.9, 0.1], strict=True)),
    ]
    assert decoded.predictions == [classes[1], classes[0]]


def test_probabilities_have_six_digits() -> None:
    decoded = decode_outputs([table("a", "b", "c")], [floats([1 / 3, 2 / 3, 1e-9])])
    assert decoded.probabilities == [{"a": 0.333333, "b": 0.666667, "c": 0.0}]


def test_a_sequence_of_maps_is_probabilities() -> None:
    maps = [{0: 0.25, 1: 0.75}, {0: 0.9, 1: 0.1}]
    decoded = decode_outputs([label(), table(0, 1)], [np.array([1, 0]), maps])
    assert decoded.predictions == [1, 0]
    assert decoded.probabilities == [{"0": 0.25, "1": 0.75}, {"0": 0.9, "1": 0.1}]


def test_without_classes_the_labels_are_as_they_are() -> None:
    decoded = decode_outputs([label(), table()], [np.array([1, 0]), PROBABILITIES])
    assert decoded == ([1, 0], None, None)


def test_a_table_that_does_not_fit_the_classes_is_left_out() -> None:
    decoded = decode_outputs([label(), table(0, 1, 2)], [np.array([1, 0]), PROBABILITIES])
    assert decoded == ([1, 0], None, None)


def prediction(*shape: int | None) -> OutputField:
    return OutputField(name="y", dtype="float32", shape=list(shape), role="prediction")


@pytest.mark.parametrize(
    ("values", "predictions"),
    [
        (floats([0.1], [2.0]), [0.1, 2.0]),
        (floats(0.1, 2.0), [0.1, 2.0]),
        (floats([[0.1]], [[2.0]]), [0.1, 2.0]),
        (floats([0.1, 0.2], [3.0, 4.0]), [[0.1, 0.2], [3.0, 4.0]]),
        (floats([0.1, 0.2]), [[0.1, 0.2]]),
        (floats([0.1]), [0.1]),
        (np.float32(0.1), [0.1]),
        (np.array([[1], [2]]), [1, 2]),
        (np.array([["a", "b"]], dtype=object), [["a", "b"]]),
    ],
)
def test_a_value_a_row_is_flat_and_more_are_lists(values: Any, predictions: list[Any]) -> None:
    assert decode_outputs([prediction(None, 1)], [np.asarray(values)]).predictions == predictions


def test_what_is_not_finite_is_null() -> None:
    values = floats([np.nan], [np.inf], [-np.inf], [1.5])
    assert decode_outputs([prediction(None, 1)], [values]).predictions == [None, None, None, 1.5]
    wide = decode_outputs([prediction(None, 2)], [floats([np.nan, 1.5])])
    assert wide.predictions == [[None, 1.5]]
    decoded = decode_outputs([table("a", "b")], [floats([np.nan, 0.5])])
    assert decoded.probabilities == [{"a": None, "b": 0.5}]


def test_the_answer_has_a_limit() -> None:
    with pytest.raises(LimitExceeded, match="more than 500,000 values") as refused:
        decode_outputs([prediction(None, None)], [np.zeros((501, 1000), np.float32)])
    assert "Split the rows" in (refused.value.hint or "")


def test_outputs_without_a_role_are_not_asked_for() -> None:
    other = OutputField(name="hidden", dtype="float32", shape=[None, 8])
    assert wanted_outputs([other, label(), table()]) == [label(), table()]
    assert wanted_outputs([other, other]) == [other]
    assert wanted_outputs([]) == []
