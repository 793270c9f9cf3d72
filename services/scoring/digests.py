"""Values and how often each was seen, in bounded memory."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Digest:
    """Counts of rows by value and by group, exact while there are few different values.

    Beyond `limit` of them neighbours are merged, so that about `limit / 2` are left with as many
    rows each, at the mean of their values. What is asked by ranks is then right up to about
    2 / `limit` of the rows for each time that this was done.
    """

    def __init__(self, limit: int, groups: int = 1) -> None:
        self.exact = True
        self._limit = limit
        self._values = np.empty(0)
        self._counts = np.empty((0, groups), dtype=np.int64)
        self._waiting: list[tuple[NDArray[np.float64], NDArray[np.intp]]] = []
        self._rows_waiting = 0

    def add(self, values: NDArray[np.float64], groups: NDArray[np.intp] | None = None) -> None:
        """Count values [rows], each finite, in the group of its row [rows], or all in group 0."""
        if groups is None:
            groups = np.zeros(len(values), dtype=np.intp)
        self._waiting.append((values, groups))
        self._rows_waiting += len(values)
        if self._rows_waiting > self._limit:
            self._take_in()

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The values, ascending [points], and the rows of each group there [points, groups]."""
        self._take_in()
        return self._values, self._counts

    def median(self) -> float:
        """The median of the values of all groups, of which there must be one."""
        values, counts = self.points()
        reached = counts.sum(axis=1).cumsum()
        rows = int(reached[-1])
        middle = np.searchsorted(reached, [(rows - 1) // 2, rows // 2], side="right")
        return float(values[middle].mean())

    def _take_in(self) -> None:
        if not self._waiting:
            return
        new = np.concatenate([values for values, _ in self._waiting])
        groups = np.concatenate([groups for _, groups in self._waiting])
        self._waiting, self._rows_waiting = [], 0
        values, place = np.unique(np.concatenate([self._values, new]), return_inverse=True)
        counts = np.zeros((len(values), self._counts.shape[1]), dtype=np.int64)
        counts[place[: len(self._values)]] = self._counts
        np.add.at(counts, (place[len(self._values) :], groups), 1)
        self._values, self._counts = values, counts
        if len(values) > self._limit:
            self._merge_neighbours()

    def _merge_neighbours(self) -> None:
        self.exact = False
        weights = self._counts.sum(axis=1)
        behind = weights.cumsum()
        bins = (behind - weights // 2 - 1) * (self._limit // 2) // behind[-1]
        starts = np.flatnonzero(np.diff(bins, prepend=-1))
        sums = np.add.reduceat(self._values * weights, starts)
        self._values = sums / np.add.reduceat(weights, starts)
        self._counts = np.add.reduceat(self._counts, starts, axis=0)


def area_under_roc(digest: Digest, positive: int = 1) -> float:
    """How often a row of the group `positive` has a greater value than one of the others, a tie
    counted as a half. Both must have rows."""
    right, wrong = _sides(digest, positive)
    lower = wrong.cumsum() - wrong / 2
    return float((right * lower).sum() / (right.sum() * wrong.sum()))


def average_precision(digest: Digest, positive: int = 1) -> float:
    """The mean of the precision at each value that rows of the group `positive` have, weighted by
    how many; taken from the greatest value down. The group must have rows."""
    right, wrong = (side[::-1] for side in _sides(digest, positive))
    found = right.cumsum()
    return float((found / (found + wrong.cumsum()) * right).sum() / found[-1])


def limit_for(digests: int) -> int:
    """The `limit` of each of so many, for all together to take some 50 MB at most."""
    return min(_MOST_POINTS, max(_LEAST_POINTS, _ALL_POINTS // max(1, digests)))


def are_exact(digests: Sequence[Digest]) -> bool:
    """Whether none of them has merged values."""
    return all(digest.exact for digest in digests)


def _sides(digest: Digest, positive: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # As floats: the products of counts grow beyond whole numbers of 64 bits.
    counts = digest.points()[1].astype(np.float64)
    right = counts[:, positive]
    return right, counts.sum(axis=1) - right


_MOST_POINTS = 65_536
_LEAST_POINTS = 256
_ALL_POINTS = 2_000_000
