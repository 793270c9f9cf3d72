"""What each series is expected to do in each bucket, from what it and all others do."""

import numpy as np
from numpy.typing import NDArray

from mcp_hub.services.telemetry.anomalies import robust
from mcp_hub.services.telemetry.anomalies.minutes import Buckets, Float

_DAY = 1440
_SERVICES_IN_COMMON = 3
_DAYS_OF_HISTORY = 3
_SAME_DAYS = 2
_FEW = 3.0
_STEADY = 5.0
_JUMP = 3.0
_YOUNG = 16 * 60
"""Minutes before which a series tells nothing of a day's harmonics."""
_CURVED = 3 * 60
_CLEARLY = 0.9
_HOUR = 60
_STRETCHES = 12
_UNUSUAL = 3


class Expectation:
    """Fits signals of `buckets` to a season, or to the days before, and to the load all share.

    With three days before or more, their median at the same minute of the day is the season;
    with two weeks, that of the same day of the week. Else it is three harmonics of a day.

    A series that began less than 16 hours ago is expected to keep its level, and its counts to
    follow the load. That its level follows the load, or anything from three hours on a parabola,
    is held only if this makes the median deviation clearly smaller: a fault at the end bends a
    curve, but not that median.
    """

    def __init__(self, buckets: Buckets, earlier: tuple[Float, Float] | None) -> None:
        self._buckets = buckets
        self._earlier = _comparable(earlier) if earlier is not None else None
        self.days = len(self._earlier[0]) if self._earlier else 0
        self._season = _season(buckets)
        self._load = _load(buckets, _profile(self._earlier[0]) if self._earlier else None)
        # From the bucket after the one in which a series is first seen.
        seen = np.cumsum(buckets.count, axis=1) > 0
        self._age = seen.sum(axis=1) * buckets.width
        alive = np.pad(seen[:, :-1], ((0, 0), (1, 0)))
        there = np.where(buckets.count > 0, buckets.count, np.nan)
        self.usual = np.nan_to_num(robust.median(there))
        # What is silent for long would be taken for the usual.
        silent = (buckets.count == 0) & (self.usual >= _STEADY)[:, None]
        self._alive, self._trusted = alive, (alive & ~silent).astype(np.float64)

    def of_counts(self, *, shared: bool = True) -> Float:
        """The expected counts [S, B]; without `shared`, as if no other series were there."""
        root = 2 * np.sqrt(self._buckets.count + 3 / 8)
        usual = np.zeros_like(root)
        if self._earlier:
            usual = 2 * np.sqrt(_profile(self._earlier[0]) + 3 / 8)
        load = self._load if shared else None
        fit = usual + self._fit(root - usual, self._trusted, load, surely=True)
        expected = np.maximum(np.maximum(fit, 0) ** 2 / 4 - 3 / 8, 0)
        return np.asarray(np.where(self._alive, expected, self._buckets.count))

    def of_levels(self, values: Float, weights: Float, *, logarithm: bool) -> Float:
        """The expected `values` [S, B], which are logarithms where `logarithm` says so."""
        usual = np.zeros_like(values)
        if self._earlier:
            usual = _profile(self._earlier[1])
            usual = np.log(np.maximum(usual, 1e-12)) if logarithm else usual
        fit = usual + self._fit(values - usual, weights, self._load_as(logarithm))
        return fit + self._of_load(values - fit) if logarithm else fit

    def _of_load(self, off: Float) -> Float:
        """The part of `off` [S, B], logarithms, that the shared load explains when it jumps.

        How a level follows the load is learnt from a season, where both are slow. In a sudden dip
        or surge of the load, as much of the same is not held against it.
        """
        load = self._load_as(logarithm=True)
        if load is None:
            return np.zeros_like(off)
        season = np.stack([np.ones_like(load), *self._season], axis=1)[None]
        rest = load - robust.regress(season, load[None], np.ones((1, len(load))))[0]
        jump = np.where(np.abs(rest) > _JUMP * robust.scale(rest), rest, 0.0)
        off = np.nan_to_num(off)
        part = np.sign(jump) * np.minimum(np.abs(off), np.abs(jump))
        return np.asarray(np.where(np.sign(off) == np.sign(jump), part, 0.0))

    def nuisance(self, *, logarithm: bool) -> Float:
        """What a level may follow besides its own course: [B, p]."""
        load = self._load_as(logarithm)
        columns = [np.ones(self._buckets.size), *self._season]
        return np.stack(columns if load is None else [*columns, load], axis=1)

    def of_errors(self) -> tuple[Float, Float]:
        """The expected errors [S, B] among the records there are, and the usual ratio [S].

        Of what fails much more often than that, in a bucket or over a stretch of them, none counts:
        of few records a minute, a single minute of a fault need not stand out.
        """
        count, errors = self._buckets.count, self._buckets.errors
        size, width = self._buckets.size, self._buckets.width
        starts = np.arange(0, size, max(1, min(_HOUR, size * width // _STRETCHES) // width))
        of = np.repeat(np.arange(len(starts)), np.diff(starts, append=size))
        records, failed = (np.add.reduceat(one, starts, axis=1) for one in (count, errors))
        kept = _calm(records, failed)[:, of]
        for _ in range(6):
            ratio = ((errors * kept).sum(axis=1) + 0.5) / ((count * kept).sum(axis=1) + 1)
            usual = robust.root_deviance(failed, ratio[:, None] * records) < _UNUSUAL
            kept = usual[:, of] & (robust.root_deviance(errors, ratio[:, None] * count) < _UNUSUAL)
        return ratio[:, None] * count, ratio

    def _load_as(self, logarithm: bool) -> Float | None:
        """The shared load as levels follow it; counts follow its root."""
        if self._load is None:
            return None
        whole = np.maximum(1 + self._load, 0.1)
        return 2 * np.log(whole) if logarithm else whole**2 - 1

    def _fit(
        self, values: Float, weights: Float, load: Float | None, *, surely: bool = False
    ) -> Float:
        """What is fitted besides the days before: the season only where these do not tell it.

        `surely` says that also the young follow the load.
        """
        loads = [] if load is None else [load]
        plain = [loads] if surely or not loads else [[], loads]
        season = [] if self._earlier else self._season
        clock = np.linspace(-1, 1, self._buckets.size)
        curve = [] if self._earlier else [clock, clock**2]
        curved = self._age >= _CURVED
        fit = np.zeros_like(values)
        for rows, tried in (
            (self._age >= _YOUNG, [season + loads]),
            ((self._age < _YOUNG) & curved, [*plain, *(curve + one for one in plain)]),
            (~curved, plain),
        ):
            if rows.any():
                fit[rows] = _simplest(tried, values[rows], weights[rows])
        return fit


def _simplest(tried: list[list[Float]], values: Float, weights: Float) -> Float:
    """The fit [S, B] of the first columns [B] tried, or of later ones that are clearly closer."""
    known = np.where(weights > 0, values, np.nan)
    best, spread = np.zeros_like(values), np.full(len(values), np.inf)
    for columns in tried:
        design = np.stack([np.ones(values.shape[1]), *columns], axis=1)
        fit = robust.regress(np.broadcast_to(design, (len(values), *design.shape)), values, weights)
        off = robust.scale((known - fit) * weights)
        closer = np.isinf(spread) | (off < _CLEARLY * spread)
        best[closer], spread[closer] = fit[closer], off[closer]
    return best


def _calm(count: Float, errors: Float) -> NDArray[np.bool_]:
    """The stretches [S, T] that have the fewest errors for their records."""
    ratio = np.where(count > 0, errors / np.maximum(count, 1), np.nan)
    with np.errstate(invalid="ignore"):
        return np.asarray(ratio <= np.nan_to_num(robust.quantile(ratio, 0.4))[:, None])


def _season(buckets: Buckets) -> list[Float]:
    minutes = np.arange(buckets.size) * buckets.width
    span = buckets.size * buckets.width
    if span >= _YOUNG:
        turns = 2 * np.pi * minutes / _DAY
        return [f(k * turns) for k in (1, 2, 3) for f in (np.sin, np.cos)]
    if span >= _CURVED:
        clock = np.linspace(-1, 1, buckets.size)
        return [clock, clock**2]
    return []


def _load(buckets: Buckets, profile: Float | None) -> Float | None:
    """The load that all services share [B], around 0: the median of each one's against its own.

    A service's own is its median since it was first seen, or its `profile` [S, B] of the days
    before. Where too few have begun, the load is 0.
    """
    own: dict[str, list[Float]] = {}
    begun = np.cumsum(buckets.count, axis=1) > 0
    root = np.where(begun, np.sqrt(buckets.count), np.nan)
    typical = np.nan_to_num(robust.median(root))
    usual = np.sqrt(profile) if profile is not None else typical[:, None]
    for place, series in enumerate(buckets.series):
        if series.kind != "metric" and typical[place] ** 2 >= _FEW:
            against = np.maximum(np.nan_to_num(usual[place]), 0.1 * typical[place])
            own.setdefault(series.service, []).append(root[place] / against)
    if len(own) < _SERVICES_IN_COMMON:
        return None
    means = np.stack([_mean(np.stack(one, axis=-1)) for one in own.values()], axis=-1)
    there = np.stack([np.isfinite(one).any(axis=0) for one in own.values()], axis=-1)
    middle = robust.median(np.where(there, means, np.nan))
    return np.where(there.sum(axis=-1) >= _SERVICES_IN_COMMON, middle - 1, 0.0)


def _comparable(earlier: tuple[Float, Float]) -> tuple[Float, Float] | None:
    """The days before that have records: those of the same day of the week if there are two."""
    there = np.flatnonzero(np.isfinite(earlier[0]).any(axis=(1, 2)))
    if len(there) < _DAYS_OF_HISTORY:
        return None
    same = there[(there + 1) % 7 == 0]
    chosen = same if len(same) >= _SAME_DAYS else there
    return earlier[0][chosen], earlier[1][chosen]


def _profile(days: Float) -> Float:
    """What the days [D, S, B] before say of this one [S, B], smoothed a little over time."""
    middle = robust.median(np.moveaxis(days, 0, -1))
    padded = np.pad(middle, ((0, 0), (1, 1)), mode="edge")
    around = np.stack([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], axis=-1)
    level = robust.median(middle)[:, None]
    known = np.isfinite(around).any(axis=-1)
    return np.asarray(np.where(known, _mean(around), np.nan_to_num(level)))


def _mean(values: Float) -> Float:
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=-1)
    return np.asarray(total / np.maximum(known.sum(axis=-1), 1))
