import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mcp_hub.services.telemetry.anomalies import robust
from mcp_hub.services.telemetry.anomalies.courses import find_courses

MAYBE = st.floats(-1e6, 1e6) | st.just(np.nan)


@given(
    arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=MAYBE),
    st.sampled_from([0.1, 0.4, 0.5, 0.9]),
)
def test_quantiles_are_those_of_numpy(values: np.ndarray, rank: float) -> None:
    found = robust.quantile(values, rank)
    for row, value in zip(values, found, strict=True):
        known = row[np.isfinite(row)]
        if len(known):
            assert value == pytest.approx(np.quantile(known, rank), abs=1e-6)
        else:
            assert np.isnan(value)


def test_a_fit_ignores_outliers_and_gaps() -> None:
    clock = np.linspace(-1, 1, 200)
    values = 3 + 2 * clock
    spoilt = values.copy()
    spoilt[50:90] += 100
    spoilt[120:130] = np.nan
    design = np.stack([np.ones(200), clock], axis=1)[None]
    fit = robust.regress(design, spoilt[None], np.ones((1, 200)))
    assert fit[0] == pytest.approx(values, abs=0.01)


def test_the_deviance_of_a_count() -> None:
    found = robust.root_deviance(np.array([0.0, 10.0, 20.0]), np.array([10.0, 10.0, 10.0]))
    # Of no event where 10 are expected the probability is e^-10, and the deviance 2 * 10.
    assert found == pytest.approx([-np.sqrt(20), 0, np.sqrt(2 * (20 * np.log(2) - 10))])


def test_a_scan_finds_a_weak_long_window_and_nothing_else() -> None:
    rng = np.random.default_rng(7)
    z = rng.normal(size=(50, 288))
    z[17, 100:130] += 2
    (found,) = robust.scan_levels(z, 6.0, slice(0, 288))
    assert found.row == 17
    assert found.score > 6
    assert abs(found.start - 100) <= 4
    assert abs(found.stop - 130) <= 4


def test_a_scan_is_blunted_by_noise_that_lasts() -> None:
    rng = np.random.default_rng(8)
    steps = rng.normal(size=(20, 600))
    lasting = np.stack([np.convolve(row, np.ones(15) / np.sqrt(15), "same") for row in steps])
    assert robust.scan_levels(lasting, 6.0, slice(0, 600)) == []


def test_counts_more_dispersed_than_poisson_widen_their_scale() -> None:
    rng = np.random.default_rng(9)
    expected = np.full((20, 300), 50.0)
    counts = rng.negative_binomial(5, 5 / 55, size=expected.shape).astype(np.float64)
    assert robust.scan_counts(counts, expected, 7.0, slice(0, 300)) == []


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=30))
def test_a_trend_is_that_of_the_reverse_turned_round(values: list[float]) -> None:
    array = np.array(values)
    assert robust.mann_kendall(array) == pytest.approx(-robust.mann_kendall(array[::-1]))
    assert robust.theil_sen(array) == pytest.approx(-robust.theil_sen(array[::-1]))


def test_a_slope_survives_outliers() -> None:
    values = 0.5 * np.arange(60)
    values[::7] += 1000
    assert robust.theil_sen(values) == pytest.approx(0.5, abs=0.02)


def test_rows_off_together_stand_out_as_none_does_alone() -> None:
    rng = np.random.default_rng(10)
    z = rng.normal(size=(12, 400))
    z[:, 200:206] += 1.8
    distance = robust.joint(z)
    assert np.median(distance[200:206]) > 2.5
    assert np.abs(np.delete(distance, np.s_[200:206])).max() < 5


def test_most_is_known_from_where_rows_and_columns_are_many() -> None:
    assert robust.most_known(np.array([0, 0, 0, 90]), 120) == 0
    assert robust.most_known(np.array([0, 200, 200, 200, 200, 230]), 240) == 0
    assert robust.most_known(np.array([0, *[200] * 7, 230]), 240) == 200
    assert robust.most_known(np.array([120]), 120) == 0


def _season() -> tuple[np.ndarray, np.ndarray]:
    turns = 2 * np.pi * np.arange(288) / 288
    columns = [np.ones(288), np.sin(turns), np.cos(turns), np.sin(2 * turns), np.cos(2 * turns)]
    return 0.3 * np.sin(turns), np.stack(columns, axis=1)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_ramp_is_told_from_the_season(sign: int) -> None:
    season, nuisance = _season()
    values = season + np.random.default_rng(3).normal(0, 0.02, 288)
    values[100:220] += sign * np.linspace(0, 0.6, 120)
    (found,) = find_courses(values[None], nuisance, 5, 0.2)
    assert found.is_ramp
    assert found.change == pytest.approx(sign * 0.6, rel=0.2)
    assert abs(found.start - 100) <= 9
    assert abs(found.stop - 220) <= 6


def test_a_lasting_step_is_no_ramp() -> None:
    season, nuisance = _season()
    values = season + np.random.default_rng(4).normal(0, 0.02, 288)
    values[150:] += 0.5
    (found,) = find_courses(values[None], nuisance, 5, 0.2)
    assert not found.is_ramp
    assert found.stop == 288
    assert found.line(288)[[100, 200]] == pytest.approx([0, 0.5], abs=0.1)


def test_a_season_and_a_spike_are_no_courses() -> None:
    season, nuisance = _season()
    values = season + np.random.default_rng(5).normal(0, 0.02, (2, 288))
    values[1, 100:104] += 3
    assert find_courses(values, nuisance, 5, 0.2) == []
