"""What goes on for hours: slow rises and falls, as of a leak, and levels that shifted for long.

To the levels of a series, rid of its season and of the load, every ramp and every box of a grid is
fitted at once; the one that explains most is kept if it explains most of what there is and stands
out of the noise. A ramp that is no better than a box is none, and has to go on all the way (Mann
1945, Kendall 1975); how much it grew is by Theil and Sen's slope. What such a course adds is then
taken away, since it would pass for the season.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcp_hub.services.telemetry.anomalies import robust
from mcp_hub.services.telemetry.anomalies.robust import Float

LEAST_MINUTES = 90
_GRID = 96
_EXPLAINED = 0.5
_ABOVE_NOISE = 6.0
_STEADY = 0.4


@dataclass(frozen=True, slots=True)
class Course:
    """Columns `start` to `stop` of a row in which it is off: up to `change`, or by it at once."""

    row: int
    start: int
    stop: int
    change: float
    score: float
    is_ramp: bool

    def line(self, size: int) -> Float:
        """What it adds to the row's `size` columns."""
        added = np.zeros(size)
        begin = 0.0 if self.is_ramp else self.change
        added[self.start : self.stop] = np.linspace(begin, self.change, self.stop - self.start)
        return added


@dataclass(frozen=True, slots=True)
class _Bank:
    """Shapes [C, B] from `starts` to `stops` [C], and the same rid of the nuisance."""

    starts: NDArray[np.intp]
    stops: NDArray[np.intp]
    shapes: Float
    rid: Float


def find_courses(values: Float, nuisance: Float, width: int, least: float) -> list[Course]:
    """The long courses in `values` [S, B], at most one for each row.

    `nuisance` [B, p] is what else the values follow; `width` is the minutes of a column, `least`
    the smallest change that counts.
    """
    size = values.shape[1]
    group = max(1, -(-size // _GRID))
    coarse = size // group
    shortest = max(4, -(-LEAST_MINUTES // (group * width)))
    if coarse < 2 * shortest:
        return []
    levels = robust.median(values[:, : coarse * group].reshape(len(values), coarse, group))
    rows = np.flatnonzero(np.isfinite(levels).mean(axis=1) > 0.8)
    if not len(rows):
        return []
    filled = np.stack([_filled(levels[row]) for row in rows])
    other = nuisance[: coarse * group].reshape(coarse, group, -1).mean(axis=1)
    basis, _ = np.linalg.qr(other)
    ramps, boxes = _bank(coarse, shortest, basis, ramp=True), _bank(coarse, 1, basis, ramp=False)
    rest = _without(filled, basis)
    ramp_gain, ramp_size = _gains(rest, ramps.rid)
    box_gain, box_size = _gains(rest, boxes.rid)
    found = []
    for place, row in enumerate(rows.tolist()):
        at_ramp, at_box = int(np.argmax(ramp_gain[place])), int(np.argmax(box_gain[place]))
        is_ramp = bool(ramp_gain[place, at_ramp] > 1.05 * box_gain[place, at_box])
        bank, best = (ramps, at_ramp) if is_ramp else (boxes, at_box)
        gain = float((ramp_gain if is_ramp else box_gain)[place, best])
        change = float((ramp_size if is_ramp else box_size)[place, best])
        start, stop = int(bank.starts[best]), int(bank.stops[best])
        if abs(change) < least or gain < _EXPLAINED * float((rest[place] ** 2).sum()):
            continue
        if not is_ramp and stop - start < shortest:
            continue
        left = _without((filled[place] - change * bank.shapes[best])[None], basis)[0]
        noise = max(float(robust.scale(left)), 1e-9)
        if abs(change) < _ABOVE_NOISE * noise:
            continue
        explained = (left + change * bank.shapes[best])[start:stop]
        if is_ramp and not _goes_on(explained * np.sign(change), least):
            continue
        if not is_ramp and start == 0 and stop >= coarse // 4:
            # The same as a box over the rest: what was before is the usual.
            start, stop, change = stop, coarse, -change
        end = size if stop == coarse else stop * group
        score = float(change / noise)
        found.append(Course(row, start * group, end, change, score, is_ramp))
    return found


def _bank(size: int, shortest: int, basis: Float, *, ramp: bool) -> _Bank:
    starts, stops = np.triu_indices(size + 1, shortest)
    at = np.arange(size)
    inside = (at >= starts[:, None]) & (at < stops[:, None])
    shapes = inside.astype(np.float64)
    if ramp:
        rise = (at - starts[:, None] + 0.5) / (stops - starts)[:, None]
        shapes = np.where(inside, rise, 0.0)
    return _Bank(starts, stops, shapes, _without(shapes, basis))


def _goes_on(values: Float, least: float) -> bool:
    """Whether `values` rise nearly all the way, and by enough."""
    grown = robust.theil_sen(values) * len(values)
    return robust.mann_kendall(values) >= _STEADY and grown >= least


def _filled(levels: Float) -> Float:
    known = np.isfinite(levels)
    at = np.arange(len(levels))
    return np.interp(at, at[known], levels[known])


def _without(values: Float, basis: Float) -> Float:
    return values - (values @ basis) @ basis.T


def _gains(values: Float, shapes: Float) -> tuple[Float, Float]:
    """By how much each shape [C, B] lowers the sum of squares [S, C], and its factor."""
    size = np.maximum((shapes**2).sum(axis=1), 1e-9)
    product = values @ shapes.T
    return product**2 / size, product / size
