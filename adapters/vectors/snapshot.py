"""A collection as one process holds it: a matrix that is searched exactly."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcp_hub.adapters.vectors.port import Hit, Where


class Row(NamedTuple):
    """A row as it is stored: `vector` holds float32 numbers, little-endian."""

    id: str
    vector: bytes
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rows of a collection at one version; never changed, so any thread may search it."""

    dimensions: int
    version: int
    units: NDArray[np.float32]
    """[n, d]: the rows at length 1, so that a product is a cosine."""
    ids: list[str] = field(default_factory=list)
    payloads: list[dict[str, Any]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, dimensions: int) -> "Snapshot":
        return cls(dimensions, 0, np.empty((0, dimensions), np.float32))

    def with_rows(self, version: int, rows: Sequence[Row]) -> "Snapshot":
        """The collection after `rows` were added or replaced, at `version`."""
        places, ids, payloads = dict(self.places), list(self.ids), list(self.payloads)
        for row in rows:
            place = places.setdefault(row.id, len(ids))
            if place == len(ids):
                ids.append(row.id)
                payloads.append(row.payload)
            else:
                payloads[place] = row.payload
        units = np.empty((len(ids), self.dimensions), np.float32)
        units[: len(self.units)] = self.units
        changed = [places[row.id] for row in rows]
        numbers = np.frombuffer(b"".join(row.vector for row in rows), "<f4")
        units[changed] = unit_rows(numbers.reshape(len(rows), self.dimensions))
        return Snapshot(self.dimensions, version, units, ids, payloads, places)

    def search(self, vector: NDArray[np.float32], limit: int, where: Where) -> list[Hit]:
        """The nearest rows to `vector` [d], nearest first."""
        scores = self.units @ unit_rows(vector[np.newaxis])[0]
        places = self._matching(where) if where else np.arange(len(scores))
        scores = scores[places] if where else scores
        if limit < len(scores):
            nearest = np.argpartition(scores, -limit)[-limit:]
        else:
            nearest = np.arange(len(scores))
        nearest = nearest[np.argsort(-scores[nearest], kind="stable")]
        return [
            Hit(self.ids[place], float(score), dict(self.payloads[place]))
            for place, score in zip(places[nearest].tolist(), scores[nearest], strict=True)
        ]

    def _matching(self, where: Where) -> NDArray[np.intp]:
        wanted = where.items()
        return np.fromiter(
            (
                place
                for place, payload in enumerate(self.payloads)
                if all(_has(payload.get(key), value) for key, value in wanted)
            ),
            np.intp,
        )


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """`rows` [n, d] at length 1; a row of zeros stays one."""
    # The largest number first, so that the squares of large ones do not overflow.
    scale = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    scaled: NDArray[np.float32] = np.zeros(rows.shape, np.float32)
    np.divide(rows, scale, out=scaled, where=scale > 0)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    np.divide(scaled, lengths, out=scaled, where=lengths > 0)
    return scaled


def _has(value: Any, wanted: str | int | bool) -> bool:
    if isinstance(value, list):
        return any(_has(element, wanted) for element in value if not isinstance(element, list))
    return type(value) is type(wanted) and value == wanted
