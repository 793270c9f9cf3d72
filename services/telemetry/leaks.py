"""Slow rises and falls that end in a drop or not at all: what a leak does to a level.

To the levels of a series, rid of its season and of the load, every ramp of a grid is fitted at
once, and every box beside it: a level that only shifted is no leak. The ramp that explains most
is kept if it explains most of what there is, stands out of the noise and goes on all the way
(Mann 1945, Kendall 1975); how much it grew is by Theil and Sen's slope.
"""

from dataclasses import dataclass

import numpy as np

from mcp_hub.services.telemetry import robust
from mcp_hub.services.telemetry.robust import Float

LEAST_MINUTES = 90
_GRID = 96
_EXPLAINED = 0.5
_ABOVE_NOISE = 6.0
_STEADY = 0.4


@dataclass(frozen=True, slots=True)
class Leak:
    """Columns `start` to `stop` of a row in which it went from 0 to `change`, in a line."""

    row: int
    start: int
    stop: int
    change: float
    score: float

    def line(self, size: int) -> Float:
        """What it adds to the row's `size` columns."""
        ramp = np.zeros(size)
        ramp[self.start : self.stop] = np.linspace(0, self.change, self.stop - self.start)
        return ramp


def find_leaks(values: Float, nuisance: Float, width: int, least: float) -> list[Leak]:
    """The leaks in `values` [S, B], at most one for each row.

    `nuisance` [B, p] is what else the values follow; `width` is the minutes of a column, `least`
    the smallest change that counts.
    """
    size = values.shape[1]
    group = max(1, -(-size // _GRID))
    coarse = size // group
    shortest = max(4, -(-LEAST_MINUTES // (group * width)))
    if coarse < 2 * shortest:
        return []
    cut = values[:, : coarse * group].reshape(len(values), coarse, group)
    levels = robust.median(cut)
    rows = np.flatnonzero(np.isfinite(levels).mean(axis=1) > 0.8)
    if not len(rows):
        return []
    filled = np.stack([_filled(levels[row]) for row in rows])
    other = nuisance[: coarse * group].reshape(coarse, group, -1).mean(axis=1)
    basis, _ = np.linalg.qr(other)
    starts, stops = np.triu_indices(coarse + 1, shortest)
    at = np.arange(coarse)
    inside = (at >= starts[:, None]) & (at < stops[:, None])
    ramps = np.where(inside, (at - starts[:, None] + 0.5) / (stops - starts)[:, None], 0.0)
    rest = _without(filled, basis)
    ramp_gain, ramp_size = _gains(rest, _without(ramps, basis))
    froms, tos = np.triu_indices(coarse + 1, 1)
    boxes = (at >= froms[:, None]) & (at < tos[:, None])
    box_gain, _ = _gains(rest, _without(boxes.astype(np.float64), basis))
    found = []
    for place, row in enumerate(rows.tolist()):
        best = int(np.argmax(ramp_gain[place]))
        change = float(ramp_size[place, best])
        total = float((rest[place] ** 2).sum())
        gain = float(ramp_gain[place, best])
        if abs(change) < least or gain < _EXPLAINED * total:
            continue
        if gain < 1.05 * float(box_gain[place].max()):
            continue
        start, stop = int(starts[best]), int(stops[best])
        left = _without((filled[place] - change * ramps[best])[None], basis)[0]
        noise = max(float(robust.scale(left)), 1e-9)
        explained = np.where(inside[best], left + change * ramps[best], np.nan)
        steady = robust.mann_kendall(explained[inside[best]] * np.sign(change))
        grown = robust.theil_sen(explained[inside[best]]) * (stop - start)
        if abs(change) < _ABOVE_NOISE * noise or steady < _STEADY or abs(grown) < least:
            continue
        end = size if stop == coarse else stop * group
        found.append(Leak(row, start * group, end, change, float(change / noise)))
    return found


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
