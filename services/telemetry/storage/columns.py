"""Columns of many records as bytes: arrays of numbers, and values by codes.

Not Parquet: a column is read by itself, at the cost of a look at memory, and without a library
that takes more of it than the columns do; and JSON's types stay as they are, value by value.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mcp_hub.services.telemetry.intake.naming import to_text

Array = NDArray[Any]

_ALIGN = 8
_UNSIGNED = (np.uint8, np.uint16, np.uint32)
_COMPRESSED_FROM = 512
_HUGE = 1 << 1023
_PLAIN = {str, int, float, type(None)}

_header = msgspec.json.Decoder(list[tuple[str, str, int]])


def pack(arrays: Mapping[str, Array]) -> bytes:
    """Arrays [n] by name as bytes; those of integers in the narrowest type that holds them."""
    parts: list[bytes] = []
    heads: list[tuple[str, str, int]] = []
    for name, array in arrays.items():
        narrow = _narrow(array)
        data = narrow.tobytes()
        heads.append((name, narrow.dtype.str, len(narrow)))
        parts.append(data + b"\0" * (-len(data) % _ALIGN))
    head = msgspec.json.encode(heads)
    head += b" " * (-(len(head) + 4) % _ALIGN)
    return b"".join((len(head).to_bytes(4, "little"), head, *parts))


def unpack(data: bytes) -> dict[str, Array]:
    """What `pack` packed; read-only views of `data`."""
    length = int.from_bytes(data[:4], "little")
    at = 4 + length
    arrays = {}
    for name, kind, count in _header.decode(data[4:at]):
        dtype = np.dtype(kind)
        arrays[name] = np.frombuffer(data, dtype, count, at)
        size = dtype.itemsize * count
        at += size + -size % _ALIGN
    return arrays


@dataclass(frozen=True, slots=True)
class Coded:
    """A column of JSON values: `codes` [n] are places in `values`, whose first is None."""

    values: Sequence[Any]
    codes: Array

    def __len__(self) -> int:
        return len(self.codes)

    def numbers(self) -> NDArray[np.float64]:
        """The numbers among `values`; NaN for any other, true and false included."""
        if isinstance(self.values, NumberValues):
            return self.values.as_floats()
        return np.array(
            [
                value
                if type(value) is float or (type(value) is int and -_HUGE < value < _HUGE)
                else np.nan
                for value in self.values
            ],
            np.float64,
        )

    def holds(self, test: Callable[[Any], bool]) -> NDArray[np.bool_]:
        """Of each row [n] whether `test` holds for its value, which may be None."""
        fits = np.fromiter(map(test, self.values), np.bool_, len(self.values))
        return fits[self.codes]

    def translated(self, values: Iterable[Any]) -> "Coded":
        """The same rows where each of `values` but the first stands for another."""
        known: dict[Any, int] = {None: 0}
        kept: list[Any] = [None]
        codes = np.fromiter((_code(value, known, kept) for value in values), np.uint32)
        return Coded(kept, codes[self.codes])

    def at(self, rows: Array) -> "Coded":
        """These rows: their places, or a mask [n]."""
        return Coded(self.values, self.codes[rows])


class NumberValues(Sequence[Any]):
    """None and the numbers of an array, which are not made objects before they are asked for."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array) + 1

    def __getitem__(self, place: Any) -> Any:
        return None if place == 0 else self._array[place - 1].item()

    def __iter__(self) -> Any:
        yield None
        yield from self._array.tolist()

    def as_floats(self) -> NDArray[np.float64]:
        return np.concatenate(([np.nan], self._array.astype(np.float64)))


def coded(values: Iterable[Any]) -> Coded:
    """The column of these JSON values."""
    known: dict[Any, int] = {None: 0}
    kept: list[Any] = [None]
    codes = [known[v] if type(v) is str and v in known else _code(v, known, kept) for v in values]
    return Coded(kept, np.array(codes, np.uint32))


def coded_texts(texts: Iterable[str | None]) -> Coded:
    """The column of the values that these JSON texts stand for."""
    raw = coded(texts)
    decode = msgspec.json.decode
    return raw.translated(None if text is None else decode(text) for text in raw.values)


class Dictionary:
    """Numbers for values, the same for equal ones of all columns; None is 0."""

    def __init__(self) -> None:
        self.values: list[Any] = [None]
        self._known: dict[Any, int] = {None: 0}

    def __len__(self) -> int:
        return len(self.values)

    def numbers(self, column: Coded) -> NDArray[np.int64]:
        """The number [n] of the value of each row."""
        used = np.flatnonzero(np.bincount(column.codes, minlength=len(column.values)))
        every = list(column.values)
        values = every if len(used) == len(every) else [every[code] for code in used.tolist()]
        numbers = np.zeros(len(every), np.int64)
        numbers[used] = self._numbered(values)
        return numbers[column.codes]

    def _numbered(self, values: list[Any]) -> list[int]:
        kinds = set(map(type, values))
        if kinds <= _PLAIN:
            # These are their own keys: whole lists at a time, which is several times as fast.
            keys = values
            for value in dict.fromkeys(values):
                if value not in self._known:
                    self._known[value] = len(self.values)
                    self.values.append(value)
        else:
            keys = [*map(key_of, values)]
            for key, value in zip(keys, values, strict=True):
                if key not in self._known:
                    self._known[key] = len(self.values)
                    self.values.append(value)
        return list(map(self._known.__getitem__, keys))


def pack_coded(column: Coded) -> bytes:
    values = list(column.values)[1:]
    arrays = {"codes": column.codes}
    kinds = set(map(type, values))
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        arrays["integers"] = np.array(values, np.int64)
    elif kinds == {float}:
        arrays["floats"] = np.array(values, np.float64)
    else:
        text = to_text(values).encode()
        if len(text) >= _COMPRESSED_FROM:
            arrays["deflated"] = np.frombuffer(zlib.compress(text, 1), np.uint8)
        else:
            arrays["json"] = np.frombuffer(text, np.uint8)
    return pack(arrays)


def unpack_coded(data: bytes) -> Coded:
    arrays = unpack(data)
    codes = arrays["codes"]
    for numbers in ("integers", "floats"):
        if numbers in arrays:
            return Coded(NumberValues(arrays[numbers]), codes)
    text = (
        arrays["json"].tobytes()
        if "json" in arrays
        else zlib.decompress(arrays["deflated"].tobytes())
    )
    return Coded([None, *msgspec.json.decode(text)], codes)


def key_of(value: Any) -> Any:
    """What is equal exactly where JSON values are: 1 is 1.0, but not true."""
    kind = type(value)
    if kind is str or kind is int or kind is float:
        return value
    if kind is bool:
        return (value,)
    return None if value is None else (kind, to_text(value, sort=True))


def _code(value: Any, known: dict[Any, int], kept: list[Any]) -> int:
    code = known.setdefault(key_of(value), len(kept))
    if code == len(kept):
        kept.append(value)
    return code


def _narrow(array: Array) -> Array:
    if array.dtype.kind not in "iu":
        return np.ascontiguousarray(array)
    if not len(array):
        return array.astype(np.uint8)
    least, most = array.min(), array.max()
    if least >= 0:
        for kind in _UNSIGNED:
            if most <= np.iinfo(kind).max:
                return array.astype(kind)
    return np.ascontiguousarray(array.astype(np.int64))


def nothing(length: int) -> Coded:
    """A column without a value."""
    return Coded([None], np.fromiter(repeat(0, length), np.uint8, length))
