"""What every collection of vectors checks of its arguments."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_hub.adapters.errors import Conflict, InvalidArgument
from mcp_hub.adapters.vectors.port import Where

_LONGEST_ID = 256


def checked_rows(
    ids: Sequence[str],
    matrix: NDArray[np.float32],
    payloads: Sequence[Mapping[str, Any]] | None,
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """The rows to store, float32 [n, d], and their payloads. Raises InvalidArgument."""
    rows = _float32(matrix)
    kept = [dict(payload) for payload in payloads] if payloads is not None else [{} for _ in ids]
    if rows.ndim != 2 or rows.shape[1] == 0 or not len(ids) == len(rows) == len(kept):
        raise InvalidArgument(
            f"{len(ids)} ids, vectors of shape {rows.shape} and {len(kept)} payloads do not match.",
            "Give n ids, a matrix of shape [n, d], and n payloads or none.",
        )
    seen: set[str] = set()
    for id_ in ids:
        if not 0 < len(id_) <= _LONGEST_ID or id_ in seen:
            what = "is given twice" if id_ in seen else f"has {len(id_)} characters"
            raise InvalidArgument(
                f"The id {id_[:80]!r} {what}.",
                f"Give each row an id of its own, of 1 to {_LONGEST_ID} characters.",
            )
        seen.add(id_)
    for id_, payload in zip(ids, kept, strict=True):
        _check_json(id_, payload)
    return rows, kept


def checked_query(
    vector: NDArray[np.float32], limit: int, where: Where | None
) -> tuple[NDArray[np.float32], dict[str, str | int | bool]]:
    """The vector to look for, float32 [d], and the values to have. Raises InvalidArgument."""
    row = _float32(vector)
    if row.ndim != 1 or row.size == 0:
        raise InvalidArgument(
            f"A vector of shape {row.shape} cannot be searched for.",
            "Give one row of numbers, of shape [d].",
        )
    if limit < 1:
        raise InvalidArgument(f"The limit is {limit}.", "Ask for 1 result or more.")
    for key, value in (where or {}).items():
        if not isinstance(value, str | int):
            raise InvalidArgument(
                f"The filter {key!r} asks for {value!r}.",
                "Filter by texts, whole numbers and booleans.",
            )
        if not key or '"' in key:
            raise InvalidArgument(
                f"The filter cannot name the key {key!r}.",
                "Filter by keys that are not empty and contain no double quote.",
            )
    return row, dict(where or {})


def check_dimensions(collection: str, has: int, given: int) -> None:
    """Raise Conflict where a collection of vectors of one length is given another one's."""
    if has != given:
        raise Conflict(
            f"The collection {collection!r} holds vectors of {has} dimensions, not of {given}.",
            "Use the embedder that filled it, or another collection.",
        )


def _float32(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(numbers, np.float32)
    if not np.isfinite(converted).all():
        raise InvalidArgument(
            "A vector contains NaN, infinity or a number too large for float32.",
            "Give finite numbers.",
        )
    return converted


def _check_json(id_: str, payload: dict[str, Any]) -> None:
    try:
        json.dumps(payload, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"The payload of {id_!r} is no JSON object: {error}.",
            "Give texts, finite numbers, booleans, null, lists and objects.",
        ) from error
