"""Figures of the cells of a table (a group, and a bucket of time), added up in whole arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mcp_hub.services.telemetry import sketch

Cells = NDArray[np.int64]
Floats = NDArray[np.float64]

_DENSE = 2_000_000
"""Cells are counted in an array of their whole range if it is no longer."""
_KEY_BITS = 22
_KEY_MIDDLE = 1 << (_KEY_BITS - 1)
_HELD_ROWS = 2_000_000
"""Rows that are held before they are added up, to bound the memory."""
EXACT_VALUES = 4_000_000
"""Of more numbers than these, quantiles are a sketch's, within its accuracy."""


def compacted(cells: Cells) -> tuple[Cells, NDArray[np.intp]]:
    """The distinct cells, sorted, and of which of them each of `cells` [n] is."""
    if not len(cells):
        return cells, np.empty(0, np.intp)
    first, last = int(cells.min()), int(cells.max())
    if last - first >= _DENSE:
        return np.unique(cells, return_inverse=True)
    present = np.zeros(last - first + 1, np.bool_)
    present[cells - first] = True
    places = np.cumsum(present) - 1
    return np.flatnonzero(present) + first, places[cells - first]


@dataclass(slots=True)
class Sums:
    """Sums of some figures for each cell."""

    figures: int
    _cells: list[Cells] = field(default_factory=list)
    _values: list[tuple[Floats, ...]] = field(default_factory=list)
    _held: int = 0

    def add(self, cells: Cells, *values: Floats) -> None:
        """Add `values` [n] each, of `cells` [n], of which some may be the same."""
        self._cells.append(cells)
        self._values.append(values)
        self._held += len(cells)
        if self._held > _HELD_ROWS:
            whole, sums = self.result()
            self._cells, self._values, self._held = [whole], [tuple(sums)], len(whole)

    def result(self) -> tuple[Cells, list[Floats]]:
        """The cells, sorted, and the sum of each figure for each of them."""
        if not self._cells:
            return np.empty(0, np.int64), [np.empty(0)] * self.figures
        whole, places = compacted(np.concatenate(self._cells))
        return whole, [
            np.bincount(places, np.concatenate(column), len(whole)).astype(np.float64, copy=False)
            for column in zip(*self._values, strict=True)
        ]


@dataclass(slots=True)
class Extremes:
    """The least and the greatest number of each cell."""

    _cells: list[Cells] = field(default_factory=list)
    _least: list[Floats] = field(default_factory=list)
    _most: list[Floats] = field(default_factory=list)
    _held: int = 0

    def add(self, cells: Cells, least: Floats, most: Floats) -> None:
        self._cells.append(cells)
        self._least.append(least)
        self._most.append(most)
        self._held += len(cells)
        if self._held > _HELD_ROWS:
            whole, less, more = self.result()
            self._cells, self._least, self._most = [whole], [less], [more]
            self._held = len(whole)

    def result(self) -> tuple[Cells, Floats, Floats]:
        if not self._cells:
            return np.empty(0, np.int64), np.empty(0), np.empty(0)
        whole, places = compacted(np.concatenate(self._cells))
        least = np.full(len(whole), np.inf)
        most = np.full(len(whole), -np.inf)
        np.minimum.at(least, places, np.concatenate(self._least))
        np.maximum.at(most, places, np.concatenate(self._most))
        return whole, least, most


@dataclass(slots=True)
class Numbers:
    """Numbers of each cell for quantiles: themselves while they are few, else in a sketch."""

    _exact: list[tuple[Cells, Floats]] = field(default_factory=list)
    _bins: list[tuple[Cells, NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)
    _held: int = 0
    _held_bins: int = 0

    def add(self, cells: Cells, values: Floats) -> None:
        if not self._bins and self._held + len(values) <= EXACT_VALUES:
            self._exact.append((cells, values))
            self._held += len(values)
            return
        for some, numbers in (*self._exact, (cells, values)):
            self.add_bins(some, sketch.keys_of(numbers), np.ones(len(numbers), np.int64))
        self._exact.clear()

    def add_bins(self, cells: Cells, keys: NDArray[np.int32], counts: NDArray[np.int64]) -> None:
        """Add bins of a sketch: of which cell [n] each is, its key and its count."""
        self._bins.append((cells, keys.astype(np.int64), counts))
        self._held_bins += len(cells)
        if self._held_bins > _HELD_ROWS:
            self._bins = [merged_bins(*map(np.concatenate, zip(*self._bins, strict=True)))]
            self._held_bins = len(self._bins[0][0])

    def quantiles(self, ranks: Sequence[float]) -> tuple[Cells, NDArray[np.float64]]:
        """The cells that have numbers, sorted, and their quantiles [cells, len(ranks)].

        The quantile of a rank is the number at place floor(rank * (n - 1)) of the sorted n.
        """
        if self._exact and self._bins:
            self.add(np.empty(0, np.int64), np.empty(0))
        if self._bins:
            cells, keys, counts = map(np.concatenate, zip(*self._bins, strict=True))
            whole, places = compacted(cells)
            return whole, sketch.quantiles_of(keys, counts, places, len(whole), ranks)
        if not self._exact:
            return np.empty(0, np.int64), np.empty((0, len(ranks)))
        cells, values = map(np.concatenate, zip(*self._exact, strict=True))
        return _exact_quantiles(cells, values, ranks)


def merged_bins(
    cells: Cells, keys: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[Cells, NDArray[np.int64], NDArray[np.int64]]:
    """The bins with those of the same cell and key as one, sorted by both."""
    whole, places = compacted((cells << _KEY_BITS) + keys + _KEY_MIDDLE)
    added = np.bincount(places, counts, len(whole)).astype(np.int64)
    return whole >> _KEY_BITS, (whole & ((1 << _KEY_BITS) - 1)) - _KEY_MIDDLE, added


def _exact_quantiles(
    cells: Cells, values: Floats, ranks: Sequence[float]
) -> tuple[Cells, NDArray[np.float64]]:
    whole, places = compacted(cells)
    order = np.lexsort((values, places))
    ordered = values[order]
    sizes = np.bincount(places, minlength=len(whole))
    starts = np.cumsum(sizes) - sizes
    result = np.empty((len(whole), len(ranks)))
    for column, rank in enumerate(ranks):
        result[:, column] = ordered[starts + np.floor(rank * (sizes - 1)).astype(np.intp)]
    return whole, result
