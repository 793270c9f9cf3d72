"""Where the signals of series deviate: rate, errors, level and silence, in numpy alone.

A window is reported if it is significant and if it matters. Significant: its score on the robust
scale of its own series, signal and length is beyond the normal quantile at which, over every
window of every series and signal that was scanned (Bonferroni), `alpha` false ones are expected,
and a quarter more for tails heavier than the normal's. That it matters: the change is at least a
floor in the signal's own terms. What a series does several times in the time that was looked at
is its habit, and not told.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mcp_hub.services.telemetry.anomalies import robust
from mcp_hub.services.telemetry.anomalies.choices import Signal
from mcp_hub.services.telemetry.anomalies.courses import Course, find_courses
from mcp_hub.services.telemetry.anomalies.expecting import Expectation
from mcp_hub.services.telemetry.anomalies.minutes import Buckets, Float
from mcp_hub.services.telemetry.anomalies.robust import Excursion

HEAVY_TAILS = 1.25
HABIT = 3
"""So many other excursions of the same kind make one a habit."""

_SAMPLE = 100
_MANY = 20
_FEW = 10
_MOST = 8.0
_NAMED = 5
_OFF = 3.0
_LIGHTER = 1.15
"""The deviance of a count has lighter tails than a level."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is worth telling: `alpha` false findings are expected, `floor` scales the effects."""

    alpha: float
    floor: float

    @property
    def rate(self) -> float:
        return 1 + 1.0 * self.floor

    @property
    def level(self) -> float:
        return 1 + 0.25 * self.floor

    @property
    def tail(self) -> float:
        return 1 + 0.35 * self.floor

    @property
    def errors(self) -> float:
        return 0.02 * self.floor


@dataclass(frozen=True, slots=True)
class Deviation:
    """Buckets `start` to `stop` (not included) of one series, or of all of a service (None).

    `effect` is how often the least change that is told fits into this one, on the signal's scale.
    """

    series: int | None
    service: str
    signal: Signal
    start: int
    stop: int
    score: float
    expected: float
    seen: float
    effect: float


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found, and how many windows were looked at for it."""

    deviations: list[Deviation]
    tests: int
    threshold: float


@dataclass(frozen=True, slots=True)
class _Levels:
    """A signal of size: values [S, B], what is expected, standardised residuals."""

    signal: Signal
    values: Float
    expected: Float
    z: Float
    logarithm: bool
    courses: list[Course]
    """What was taken from the values, to see what else there is."""


class Judge:
    """Looks at the buckets of `judged`, by what all of them and the earlier days say."""

    def __init__(
        self,
        buckets: Buckets,
        judged: slice,
        limits: Limits,
        earlier: tuple[Float, Float] | None = None,
    ) -> None:
        self._buckets, self._judged, self._limits = buckets, judged, limits
        self.expectation = Expectation(buckets, earlier)
        size = judged.stop - judged.start
        self._tests = robust.tests(4 * len(buckets.series), size)
        chance = min(0.01, limits.alpha / self._tests)
        self._threshold = HEAVY_TAILS * -NormalDist().inv_cdf(chance)

    def each(self) -> Judged:
        """The deviations of each series by itself."""
        if not self._buckets.series:
            return Judged([], 0, self._threshold)
        found = self._silences()
        found += [one for one in self._rates() if not _covered(one, found)]
        found += self._errors()
        for levels in self._all_levels():
            found += self._changes(levels)
        return Judged(found, self._tests, self._threshold)

    def together(self) -> Judged:
        """Windows in which all series are off together, as none of them may be alone.

        Of the time from which on most is known, and of the series that had begun by then.
        """
        buckets = self._buckets
        counts = robust.root_deviance(buckets.count, self.expectation.of_counts())
        rows = [counts, *(levels.z for levels in self._all_levels())]
        z = np.concatenate(rows) if buckets.series else np.empty((0, buckets.size))
        services = np.tile([one.service for one in buckets.series], len(rows))
        z[: len(buckets.series)][np.cumsum(buckets.count, axis=1) == 0] = np.nan
        known = np.isfinite(z)
        first = np.where(known.any(axis=1), known.argmax(axis=1), buckets.size)
        begin = robust.most_known(first, buckets.size)
        chosen = (first <= begin) & (known[:, begin:].mean(axis=1) > 0.5)
        z, services = z[chosen], services[chosen]
        if not len(z):
            return Judged([], 0, self._threshold)
        z[:, :begin] = np.nan
        z = z / np.maximum(robust.scale(z), 1.0)[:, None]
        distance = np.pad(robust.joint(z[:, begin:]), (begin, 0), constant_values=np.nan)
        tests = robust.tests(1, self._judged.stop - self._judged.start)
        threshold = HEAVY_TAILS * -NormalDist().inv_cdf(min(0.01, self._limits.alpha / tests))
        found = []
        for one in robust.scan_levels(distance[None], threshold, self._judged):
            if one.score > 0:
                window = slice(one.start, one.stop)
                seen = float(robust.median(distance[window]))
                off = _most_off(z[:, window], services)
                found.append(
                    Deviation(
                        None, off, "joint", one.start, one.stop, one.score, 0.0, seen,
                        one.score / threshold,
                    )
                )  # fmt: skip
        return Judged(found, tests, threshold)

    def _whole(self) -> slice:
        return slice(0, self._buckets.size)

    def _in_question(self, found: list[Excursion]) -> list[Excursion]:
        """Those of the judged buckets, but for what its series does again and again."""
        habits: dict[tuple[int, bool], int] = {}
        for one in found:
            way = (one.row, one.score > 0)
            habits[way] = habits.get(way, 0) + 1
        return [
            one
            for one in found
            if one.stop > self._judged.start
            and one.start < self._judged.stop
            and habits[one.row, one.score > 0] <= HABIT
        ]

    def _deviation(
        self, one: Excursion, signal: Signal, expected: float, seen: float, effect: float
    ) -> Deviation:
        service = self._buckets.series[one.row].service
        return Deviation(
            one.row, service, signal, one.start, one.stop, one.score, expected, seen, effect
        )

    def _rates(self) -> list[Deviation]:
        buckets, limits = self._buckets, self._limits
        expected = self.expectation.of_counts()
        found = []
        least = -(-10 // buckets.width)
        excursions = robust.scan_counts(buckets.count, expected, self._threshold, self._whole())
        for one in self._in_question(excursions):
            window = slice(one.start, one.stop)
            usual = float(expected[one.row, window].mean())
            seen = float(buckets.count[one.row, window].mean())
            change = abs(np.log(max(seen, 0.05 * usual, 1e-9) / max(usual, 1e-9)))
            effect = float(change / np.log(limits.rate))
            more = abs(seen - usual) * (one.stop - one.start)
            if effect >= 1 and one.stop - one.start >= least and more >= _FEW:
                found.append(
                    self._deviation(
                        one, "rate", usual / buckets.width, seen / buckets.width, effect
                    )
                )
        return found

    def _errors(self) -> list[Deviation]:
        buckets = self._buckets
        expected, ratio = self.expectation.of_errors()
        found = []
        # Against somewhat more than is usual, so that a window ends where its errors do.
        some = expected + self._limits.errors / 2 * buckets.count
        excursions = robust.scan_counts(
            buckets.errors, some, self._threshold / _LIGHTER, self._whole(), upwards=True
        )
        for one in self._in_question(excursions):
            window = slice(one.start, one.stop)
            errors = float(buckets.errors[one.row, window].sum())
            seen = errors / max(1.0, float(buckets.count[one.row, window].sum()))
            usual = float(ratio[one.row])
            effect = (seen - usual) / max(self._limits.errors, usual * self._limits.floor)
            if effect >= 1 and errors >= 5:
                found.append(self._deviation(one, "errors", usual, seen, effect))
        return found

    def _all_levels(self) -> list[_Levels]:
        """The signals of size; rows of series that do not have one are NaN."""
        buckets = self._buckets
        measured = buckets.measured
        typical = robust.median(np.where(measured > 0, measured, np.nan))
        many = np.array([one.kind == "span" for one in buckets.series]) | (typical >= _MANY)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(measured > 0, buckets.sum / measured, np.nan)
        weights = np.sqrt(np.minimum(measured, _SAMPLE))
        found = []
        signals: list[tuple[Signal, Float, np.ndarray]] = [
            ("p50", buckets.p50, many), ("p95", buckets.p95, many), ("mean", mean, ~many),
        ]  # fmt: skip
        for signal, values, has in signals:
            present = np.where(has[:, None], values, np.nan)
            enough = np.isfinite(present).sum(axis=1) >= 8
            positive = enough & (np.nan_to_num(present, nan=1.0) > 0).all(axis=1)
            for logarithm, rows in ((True, positive), (False, enough & ~positive)):
                if rows.any():
                    chosen = np.where(rows[:, None], present, np.nan)
                    if logarithm:
                        chosen = np.log(chosen)
                    found.append(self._levels(signal, chosen, weights, logarithm))
        return found

    def _levels(self, signal: Signal, values: Float, weights: Float, logarithm: bool) -> _Levels:
        courses: list[Course] = []
        if logarithm:
            nuisance = self.expectation.nuisance(logarithm=True)
            least = np.log(self._limits.tail if signal == "p95" else self._limits.level)
            courses = find_courses(values, nuisance, self._buckets.width, least)
            values = values.copy()
            for course in courses:
                values[course.row] -= course.line(values.shape[1])
        fit = self.expectation.of_levels(values, weights, logarithm=logarithm)
        off = (values - fit) * weights
        smallest = 1e-3 if logarithm else 1e-9
        noise = np.maximum(robust.scale(off), smallest)
        if signal == "p95":
            # The largest of few vary much more upwards than their MAD tells.
            noise = np.maximum(noise, robust.upper_scale(off))
        return _Levels(signal, values, fit, off / noise[:, None], logarithm, courses)

    def _changes(self, levels: _Levels) -> list[Deviation]:
        found = self._courses(levels)
        beside = {(course.row, at) for course in levels.courses for at in _edges(course)}
        z = np.clip(levels.z, -_MOST, _MOST)
        excursions = robust.scan_levels(z, self._threshold, self._whole())
        floor = self._limits.tail if levels.signal == "p95" else self._limits.level
        off = levels.values - levels.expected
        noise = robust.scale(off)
        least_buckets = max(2, -(-3 // self._buckets.width))
        for one in self._in_question(excursions):
            if one.stop - one.start < least_buckets:
                continue
            if any((one.row, at) in beside for at in range(one.start, one.stop)):
                continue
            window = slice(one.start, one.stop)
            change = float(robust.median(off[one.row, window]))
            usual = float(np.median(levels.expected[one.row, window]))
            least = np.log(floor) if levels.logarithm else 4 * max(float(noise[one.row]), 1e-9)
            effect = float(abs(change) / least)
            if effect < 1 or abs(change) < float(noise[one.row]):
                continue
            seen = usual + change
            if levels.logarithm:
                usual, seen = self._shown(levels, one.row, usual, seen)
            found.append(self._deviation(one, levels.signal, usual, seen, effect))
        return found

    def _courses(self, levels: _Levels) -> list[Deviation]:
        found = []
        for course in levels.courses:
            if course.stop > self._judged.start and course.start < self._judged.stop:
                usual = float(np.median(levels.expected[course.row, course.start : course.stop]))
                one = Excursion(course.row, course.start, course.stop, course.score)
                signal: Signal = "leak" if course.is_ramp else levels.signal
                usual, seen = self._shown(levels, course.row, usual, usual + course.change)
                effect = float(abs(course.change) / np.log(self._limits.level))
                found.append(self._deviation(one, signal, usual, seen, effect))
        return found

    def _shown(self, levels: _Levels, row: int, usual: float, seen: float) -> tuple[float, float]:
        """Two logarithms of a bucket's level as the level that many values have."""
        longer = self._buckets.longer
        factor = float(longer[row]) if longer is not None and levels.signal == "p95" else 1.0
        return factor * float(np.exp(usual)), factor * float(np.exp(seen))

    def _silences(self) -> list[Deviation]:
        """Services, then series, of which nothing comes though something must have."""
        buckets = self._buckets
        expected = self.expectation.of_counts(shared=False)
        expected = np.minimum(expected, 2 * self.expectation.usual[:, None] + 1)
        services: dict[str, list[int]] = {}
        for place, series in enumerate(buckets.series):
            services.setdefault(series.service, []).append(place)
        found: list[Deviation] = []
        for service, places in services.items():
            found += self._silence(None, service, buckets.count[places], expected[places])
        for place, series in enumerate(buckets.series):
            alone = self._silence(place, series.service, buckets.count[[place]], expected[[place]])
            found += [one for one in alone if not _covered(one, found)]
        return _of_all(found, len(services))

    def _silence(
        self, place: int | None, service: str, count: Float, expected: Float
    ) -> list[Deviation]:
        """Runs without any record that chance would not give, of what is otherwise steady.

        That a Poisson count is 0 where m are expected has the probability e^-m. Counts that vary
        more than that have their m divided by their dispersion.
        """
        seen, wanted = count.sum(axis=0), expected.sum(axis=0)
        there = seen > 0
        if not there.any():
            return []
        first = int(np.argmax(there))
        steady = robust.root_deviance(seen, wanted)[there]
        dispersion = max(1.0, float(robust.scale(steady)) ** 2)
        surprise = -np.log(min(0.01, self._limits.alpha / self._tests))
        edges = np.flatnonzero(np.diff(np.concatenate([[1], there.astype(int), [1]])))
        runs = [
            (int(start), int(stop))
            for start, stop in zip(edges[::2], edges[1::2], strict=True)
            if start > first
        ]
        found = []
        for start, stop in runs:
            lost = float(wanted[start:stop].sum())
            others = [b - a for a, b in runs if (a, b) != (start, stop)]
            habit = sum(length * 2 > stop - start for length in others) >= HABIT
            if lost / dispersion < surprise or habit or (stop - start) * self._buckets.width < 5:
                continue
            if stop > self._judged.start and start < self._judged.stop:
                rate = lost / (stop - start) / self._buckets.width
                score = -float(np.sqrt(2 * lost / dispersion))
                found.append(
                    Deviation(place, service, "silence", start, stop, score, rate, 0.0, 4.0)
                )
        return found


def _most_off(z: Float, services: NDArray[np.str_]) -> str:
    """The services whose rows z [k, B] are off by most, up to five and at least the first."""
    known = np.maximum(np.isfinite(z).sum(axis=1), 1)
    off = np.abs(np.nansum(z, axis=1)) / np.sqrt(known)
    most = {str(one): float(off[services == one].max()) for one in services}
    ranked = sorted(most, key=lambda one: -most[one])
    return ", ".join(
        one for place, one in enumerate(ranked[:_NAMED]) if not place or most[one] > _OFF
    )


def _edges(course: Course) -> list[int]:
    """The buckets at a course's ends, where a line fits it least."""
    return [end + off for end in (course.start, course.stop) for off in (-2, -1, 0, 1)]


def _covered(one: Deviation, by: list[Deviation]) -> bool:
    """Whether a deviation lies mostly in a silence of its series or service."""
    length = max(1, one.stop - one.start)
    return any(
        other.service == one.service
        and (other.series is None or other.series == one.series)
        and 2 * (min(other.stop, one.stop) - max(other.start, one.start)) >= length
        for other in by
    )


def _of_all(found: list[Deviation], services: int) -> list[Deviation]:
    """With the silences of nearly all services at once as one: then it is the way here."""
    whole = [one for one in found if one.series is None]
    kept = list(found)
    for one in whole:
        same = [o for o in whole if o.start < one.stop and one.start < o.stop]
        if one in kept and services >= 3 and len({o.service for o in same}) >= 0.8 * services:
            kept = [o for o in kept if not (o.start < one.stop and one.start < o.stop)]
            rate = sum(o.expected for o in same)
            kept.append(
                Deviation(
                    None, "*", "silence", min(o.start for o in same), max(o.stop for o in same),
                    one.score, rate, 0.0, 2.0,
                )
            )  # fmt: skip
    return kept
