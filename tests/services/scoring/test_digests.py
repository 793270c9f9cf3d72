"""Digests against scikit-learn and numpy: equal while exact, close afterwards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from mcp_hub.services.scoring.digests import (
    Digest,
    are_exact,
    area_under_roc,
    average_precision,
    limit_for,
)

scored = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0, -3.0]) | st.floats(-1, 1), st.booleans()),
    min_size=2,
    max_size=60,
).filter(lambda rows: len({positive for _, positive in rows}) == 2)


@settings(deadline=None)
@given(scored, st.integers(1, 20))
def test_while_exact_they_are_scikit_learns(rows: list[tuple[float, bool]], part: int) -> None:
    values, positive = map(np.array, zip(*rows, strict=True))
    digest, alone = Digest(64, 2), Digest(64)
    for start in range(0, len(values), part):
        chosen = slice(start, start + part)
        digest.add(values[chosen], positive[chosen].astype(np.intp))
        alone.add(values[chosen])
    assert are_exact([digest, alone])
    assert area_under_roc(digest) == pytest.approx(metrics.roc_auc_score(positive, values))
    precision = metrics.average_precision_score(positive, values)
    assert average_precision(digest) == pytest.approx(precision)
    assert alone.median() == pytest.approx(np.median(values))


@pytest.mark.parametrize("order", ["shuffled", "ascending", "descending", "by group"])
def test_beyond_the_limit_they_are_close_whatever_the_order(order: str) -> None:
    """200,000 different values in digests of 2,048: more than 90 times as many are merged."""
    random = np.random.default_rng(1)
    positive = random.random(200_000) < 0.1
    values = random.normal(size=200_000) + positive
    places = {
        "shuffled": np.arange(200_000),
        "ascending": np.argsort(values),
        "descending": np.argsort(-values),
        "by group": np.argsort(positive, kind="stable"),
    }[order]
    digest, alone = Digest(2_048, 2), Digest(2_048)
    for chosen in np.array_split(places, 50):
        digest.add(values[chosen], positive[chosen].astype(np.intp))
        alone.add(values[chosen])
    points, counts = digest.points()
    assert not digest.exact
    assert len(points) <= 2_048
    assert counts.sum(axis=0).tolist() == [(~positive).sum(), positive.sum()]
    assert (np.diff(points) > 0).all()
    assert area_under_roc(digest) == pytest.approx(
        metrics.roc_auc_score(positive, values), abs=1e-3
    )
    precision = metrics.average_precision_score(positive, values)
    assert average_precision(digest) == pytest.approx(precision, abs=6e-3)
    assert alone.median() == pytest.approx(np.median(values), abs=5e-3)


def test_few_different_values_stay_exact_in_any_number_of_rows() -> None:
    random = np.random.default_rng(2)
    values, positive = random.integers(0, 200, 100_000) / 200, random.random(100_000) < 0.5
    digest = Digest(256, 2)
    for chosen in np.array_split(np.arange(100_000), 13):
        digest.add(values[chosen], positive[chosen].astype(np.intp))
    assert digest.exact
    assert area_under_roc(digest) == pytest.approx(metrics.roc_auc_score(positive, values))


def test_many_digests_share_the_room() -> None:
    assert limit_for(1) == limit_for(30) == 65_536
    assert limit_for(1_000) == 2_000
    assert limit_for(10**9) == 256
