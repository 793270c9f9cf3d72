"""Robust statistics of many series at once: what is expected, and where it does not come.

Rows are series, columns are buckets of time; NaN is nothing known. Medians and the median absolute
deviation (MAD) stand in for means and standard deviations, so that what is searched for does not
hide itself by spoiling what it is compared with.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

_MAD_TO_SD = 1.4826
_NORMAL_90 = 1.2816
_NORMAL_10_TO_40 = 1.0283
_TUKEY = 4.685
_STEPS = 12


@dataclass(frozen=True, slots=True)
class Excursion:
    """Columns `start` to `stop` (not included) of a row that deviate; `score` has a sign."""

    row: int
    start: int
    stop: int
    score: float


def median(values: Float) -> Float:
    """The medians of the rows [..., n] without their NaNs; NaN for a row without any."""
    return quantile(values, 0.5)


def quantile(values: Float, rank: float) -> Float:
    """The quantiles of the rows [..., n], as `median`; between two values by a line."""
    # NumPy's own that leave NaNs out take each row by itself.
    ordered = np.sort(values, axis=-1)
    known = np.isfinite(ordered).sum(axis=-1)
    at = rank * np.maximum(known - 1, 0)
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, np.maximum(known - 1, 0))
    left = np.take_along_axis(ordered, low[..., None], axis=-1)[..., 0]
    right = np.take_along_axis(ordered, high[..., None], axis=-1)[..., 0]
    return np.asarray(left + (right - left) * (at - low))


def scale(values: Float) -> Float:
    """The robust standard deviation of the rows [..., n]: 1.4826 times the MAD."""
    centre = median(values)
    return _MAD_TO_SD * median(np.abs(values - centre[..., None]))


def upper_scale(values: Float) -> Float:
    """The standard deviation of the rows [..., n] by how far their 90th percentile is up."""
    return (quantile(values, 0.9) - median(values)) / _NORMAL_90


def regress(design: Float, values: Float, weights: Float) -> Float:
    """The fit [S, B] of `values` [S, B] to the columns of `design` [S, B, p], outliers ignored.

    Iteratively reweighted least squares: first towards least absolute deviations, then with
    Tukey's biweight (Beaton and Tukey, 1974). A `weights` [S, B] of zero leaves a bucket out.
    """
    known = np.isfinite(values) & (weights > 0)
    rows = known.any(axis=1)
    fit = np.zeros_like(values)
    if rows.any():
        fit[rows] = _regress(design[rows], values[rows], weights[rows], known[rows])
    return fit


def _regress(design: Float, values: Float, weights: Float, known: NDArray[np.bool_]) -> Float:
    y = np.where(known, values, 0.0)
    base = np.where(known, weights, 0.0)
    across = np.ascontiguousarray(design.transpose(0, 2, 1))
    ridge = 1e-6 * np.eye(design.shape[2])
    factor = base
    fit = np.zeros_like(y)
    for step in range(_STEPS):
        weighted = across * factor[:, None, :]
        normal = weighted @ design
        size = np.trace(normal, axis1=1, axis2=2)[:, None, None] / design.shape[2]
        right = weighted @ y[..., None]
        solved = np.linalg.solve(normal + ridge * np.maximum(size, 1e-12), right)
        fit = (design @ solved)[..., 0]
        off = np.abs(np.where(known, values - fit, np.nan))
        spread = np.maximum(_MAD_TO_SD * median(off), 1e-9)[:, None]
        off = np.where(known, off, np.inf)
        if step < _STEPS // 2:
            factor = base / np.maximum(off / spread, 0.1)
        else:
            factor = base * np.clip(1 - (off / (_TUKEY * spread)) ** 2, 0, None) ** 2
    return fit


def root_deviance(observed: Float, expected: Float) -> Float:
    """How many standard deviations Poisson counts are off: the signed root of the deviance."""
    expected = np.maximum(expected, 1e-9)
    safe = np.maximum(observed, 1e-300)
    half = np.where(observed > 0, observed * np.log(safe / expected), 0) - (observed - expected)
    return np.asarray(np.sign(observed - expected) * np.sqrt(2 * np.maximum(half, 0)))


def lengths(size: int) -> list[int]:
    """The lengths of the windows that are scanned of `size` buckets: each about 1.4 times more."""
    found = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    return [length for length in found if length <= max(1, size // 4)]


def tests(rows: int, size: int) -> int:
    """How many windows that do not overlap a scan looks at, in both directions."""
    return max(1, 2 * rows * sum(-(-size // length) for length in lengths(size)))


def scan_levels(z: Float, threshold: float, judged: slice) -> list[Excursion]:
    """The windows within `judged` in which standardised residuals z [S, B] are off together."""
    known = np.isfinite(z)
    sums = _sums(np.where(known, z, 0.0))
    counts = _sums(known.astype(np.float64))
    best = []
    for length in lengths(z.shape[1]):
        n = counts[:, length:] - counts[:, :-length]
        total = sums[:, length:] - sums[:, :-length]
        enough = n >= max(1, 0.5 * length)
        best.append(np.where(enough, total / np.sqrt(np.maximum(n, 1)), np.nan))
    return _pick(best, z.shape, threshold, judged)


def scan_counts(
    observed: Float, expected: Float, threshold: float, judged: slice, *, upwards: bool = False
) -> list[Excursion]:
    """The windows within `judged` in which counts [S, B] differ from those expected.

    The deviance of a window's sum is that of a Poisson count; by how much the other windows of
    the length are more dispersed, its scale is wider (as a negative binomial's would be). With
    `upwards`, which is for what has no reason to be less, that is by those of the lower side.
    """
    seen, wanted = _sums(observed), _sums(expected)
    best = []
    for length in lengths(observed.shape[1]):
        n, mu = (total[:, length:] - total[:, :-length] for total in (seen, wanted))
        best.append(root_deviance(n, mu))
    return _pick(best, observed.shape, threshold, judged, upwards=upwards)


def _sums(values: Float) -> Float:
    return np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)


def _pick(
    scores: list[Float],
    shape: tuple[int, ...],
    threshold: float,
    judged: slice,
    *,
    upwards: bool = False,
) -> list[Excursion]:
    """The highest scores of each row whose windows do not touch, each on its own length's scale."""
    rows, size = shape
    candidates: list[list[Excursion]] = [[] for _ in range(rows)]
    for length, score in zip(lengths(size), scores, strict=True):
        # Against the windows of the same length: noise that lasts makes long ones vary more.
        # What is off for half the time would widen it, but not what lies below.
        lower = (quantile(score, 0.4) - quantile(score, 0.1)) / _NORMAL_10_TO_40
        spread = np.fmin(scale(score), 2 * lower) if upwards else scale(score)
        spread = np.maximum(np.nan_to_num(spread, nan=1.0), 1.0)
        own = score / spread[:, None]
        own[:, : max(0, judged.start - length + 1)] = np.nan
        with np.errstate(invalid="ignore"):
            places = np.argwhere(np.abs(own) >= threshold)
        for row, start in places.tolist():
            if start < judged.stop:
                excursion = Excursion(row, start, start + length, float(own[row, start]))
                candidates[row].append(excursion)
    return [excursion for found in candidates for excursion in _apart(found, size)]


def _apart(candidates: list[Excursion], size: int) -> list[Excursion]:
    chosen: list[Excursion] = []
    taken = np.zeros(size + 2, bool)
    for one in sorted(candidates, key=lambda one: -abs(one.score)):
        if not taken[one.start : one.stop + 2].any():
            chosen.append(one)
            taken[one.start + 1 : one.stop + 1] = True
    return merged(sorted(chosen, key=lambda one: one.start))


def merged(excursions: list[Excursion], gap: int = 2) -> list[Excursion]:
    """Excursions of one row, in order, with those of one direction that nearly touch as one."""
    whole: list[Excursion] = []
    for one in excursions:
        last = whole[-1] if whole else None
        if (
            last
            and last.row == one.row
            and one.start - last.stop <= gap
            and ((last.score > 0) == (one.score > 0))
        ):
            score = max(last.score, one.score, key=abs)
            whole[-1] = Excursion(one.row, last.start, max(last.stop, one.stop), score)
        else:
            whole.append(one)
    return whole


def theil_sen(values: Float) -> float:
    """The median slope between pairs of `values` [n] that are a third of n apart or more."""
    at = np.flatnonzero(np.isfinite(values))
    if len(at) < 3:
        return 0.0
    left, right = np.triu_indices(len(at), max(1, len(at) // 3))
    return float(np.median((values[at[right]] - values[at[left]]) / (at[right] - at[left])))


def mann_kendall(values: Float) -> float:
    """Kendall's tau of `values` [n] and time: 1 where each is larger than those before."""
    known = values[np.isfinite(values)]
    if len(known) < 3:
        return 0.0
    left, right = np.triu_indices(len(known), 1)
    return float(np.mean(np.sign(known[right] - known[left])))


def joint(z: Float) -> Float:
    """How far the rows z [k, B] are off together: [B], of about standard deviation 1.

    The Mahalanobis distance by a correlation of clipped values, shrunk towards independence, and
    brought to a normal scale by Wilson and Hilferty's cube root of chi-square.
    """
    rows = len(z)
    clipped = np.clip(np.nan_to_num(z), -3, 3)
    spread = np.maximum(clipped.std(axis=1), 1e-6)
    correlation = (clipped / spread[:, None]) @ (clipped / spread[:, None]).T / z.shape[1]
    inverse = np.linalg.inv(0.8 * correlation + 0.2 * np.eye(rows))
    filled = np.nan_to_num(z)
    distance = np.einsum("ib,ij,jb->b", filled, inverse, filled)
    spread_of_root = np.sqrt(2 / (9 * rows))
    normal = (np.cbrt(distance / rows) - (1 - 2 / (9 * rows))) / spread_of_root
    centred = normal - median(normal)
    return np.asarray(centred / max(float(scale(centred)), 1.0))


def most_known(first: NDArray[np.intp], size: int) -> int:
    """From which of `size` columns on rows that are `first` [k] known have the most values."""
    begins, rows = np.unique(first, return_counts=True)
    area = np.cumsum(rows) * (size - begins)
    return int(begins[area.argmax()]) if area.any() else 0
