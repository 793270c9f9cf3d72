"""What a rule may say, and when a number breaks it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.telemetry.alerts.rules import Rule, is_broken, parse_rule


def rule(**said: Any) -> Rule:
    return parse_rule({"threshold": 10} | said)


def test_a_rule_says_itself_in_a_line() -> None:
    assert rule(kind="span", name="predict", measure="p95", **{"for": "2m"}).condition == (
        "p95 of span predict over 5m > 10 for 2m"
    )
    anomaly = parse_rule({"service": "api", "measure": "rate", "deviations": 4})
    assert anomaly.condition == "rate of api over 5m deviates by 4 σ"


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({}, "either threshold or deviations"),
        ({"threshold": 1, "deviations": 3}, "either threshold or deviations"),
        ({"threshold": 1, "window": "30s"}, "window is '30s'"),
        ({"threshold": 1, "window": "90s"}, "window is '90s'"),
        ({"threshold": 1, "window": "2d"}, "window is '2d'"),
        ({"threshold": 1, "window": "soon"}, "window is 'soon'"),
        ({"threshold": 1, "for": "8d"}, "for is '8d'"),
        ({"threshold": 1, "measure": "middle"}, "middle"),
        ({"threshold": 1, "where": {"value": {"beyond": 3}}}, "beyond"),
        ({"threshold": 1, "op": "=>"}, "rule.op"),
        ({"threshold": float("nan")}, "rule.threshold"),
        ({"threshold": 1, "labels": {"a b": "c"}}, "rule.labels"),
        ({"threshold": 1, "destinations": ["pager"]}, "rule.destinations"),
    ],
)
def test_what_is_no_rule_is_refused(said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_rule(said)
    assert complaint in refused.value.message


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_rule({"treshold": 1})
    assert refused.value.hint is not None
    assert "'threshold'" in refused.value.hint


def test_a_threshold_is_compared_and_nothing_known_is_nothing_broken() -> None:
    assert is_broken(rule(), 11, [])
    assert not is_broken(rule(), 10, [])
    assert is_broken(rule(op=">="), 10, [])
    assert is_broken(rule(op="<"), 0, [])
    assert not is_broken(rule(op="<"), None, [])


# Apart from one another, as numbers of any unit are, by far more than the least spread there is.
_numbers = st.floats(-1e9, 1e9).map(lambda number: round(number, 3))


@given(_numbers, st.lists(_numbers, min_size=5, max_size=24), st.floats(0.1, 1e3))
def test_a_deviation_does_not_depend_on_the_unit(
    value: float, before: list[float], unit: float
) -> None:
    anomaly = parse_rule({"deviations": 3})
    scaled = is_broken(anomaly, value * unit, [one * unit for one in before])
    near = is_broken(anomaly, value * 1.0001, before) != is_broken(anomaly, value * 0.9999, before)
    assert near or scaled == is_broken(anomaly, value, before)


def test_a_deviation_is_seen_beyond_noise_and_not_without_a_past() -> None:
    anomaly = parse_rule({"deviations": 4})
    usual = [100.0, 104, 97, 101, 99, 103, 98, 100]
    assert is_broken(anomaly, 200, usual)
    assert is_broken(anomaly, 0, usual)
    assert not is_broken(anomaly, 108, usual)
    assert not is_broken(anomaly, 200, [100.0, 100, None, None, None])
    assert not is_broken(anomaly, 101, [100.0] * 24)
