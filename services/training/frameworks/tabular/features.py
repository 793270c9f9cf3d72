"""From a model's inputs to the one matrix that its estimator takes, here and in the ONNX graph.

Every number is float32 in both, computed by the same operations, so that both give the same.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.inference.encoding import Arrays
from mcp_hub.services.registry.views import InputField
from mcp_hub.services.training.frameworks.tabular.graph import (
    ML_DOMAIN,
    RUNTIME_DOMAIN,
    Graph,
    float_constant,
)
from mcp_hub.services.training.frameworks.tabular.text import TOKEN_PATTERN, spellings, words

Matrix = Any
"""float64 [rows, features], a numpy array or a scipy CSR matrix."""

MAX_CATEGORIES = 100
"""Most categories of a column that are told apart; rarer ones count as unknown."""

NO_TOKEN = "#"
"""Fills up the rows with fewer tokens; no word has this character."""

_INDICATED_SHARE = 0.05
_DAY, _WEEKDAY = 2, 3
"""Where they are in what `datetime_parts` gives."""
_DENSE_CELLS = 20_000_000
_DENSE_WIDTH = 1_000
_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as features: the numbers float32 [rows, n], the rest float32 [rows, m] or None."""

    numbers: NDArray[np.float32]
    rest: sparse.csr_matrix | None


class NumberFeatures:
    """Numbers, booleans and the parts of dates, the median standing in for a missing one.

    Where at least one row in twenty lacks a value, a column more says which rows do. What is the
    same in all rows is left out, and the weekdays of dates that are all of one day of the month:
    those of yearly or monthly figures say nothing, and trees would split by them all the same.
    """

    def __init__(self, inputs: Sequence[InputField]) -> None:
        self.names = [field.name for field in inputs]
        widths = [field.shape[1] or 1 for field in inputs]
        begins = np.cumsum([0, *widths[:-1]])
        self._dates = [
            int(begin) for field, begin in zip(inputs, begins, strict=True)
            if field.kind == "datetime"
        ]  # fmt: skip

    def fit(self, arrays: Arrays) -> NDArray[np.float32]:
        """Learn from the rows; their features."""
        table = self._table(arrays)
        missing = np.isnan(table)
        known = ~missing.all(axis=0)
        self.medians = np.zeros(table.shape[1], dtype=np.float32)
        if known.any():
            self.medians[known] = np.nanmedian(table[:, known], axis=0)
        self.indicated = np.flatnonzero(known & (missing.mean(axis=0) >= _INDICATED_SHARE))
        self.kept = self._telling(np.where(missing, self.medians, table))
        features = self._features(table)
        wide = features.astype(np.float64)
        self.means = wide.mean(axis=0).astype(np.float32)
        spreads = wide.std(axis=0)
        # What is left of a constant after rounding is no spread.
        constant = (spreads <= np.abs(self.means) * 1e-6) | (spreads < _TINY)
        self.spreads = np.where(constant, 1, spreads).astype(np.float32)
        return features

    def transform(self, arrays: Arrays) -> NDArray[np.float32]:
        """The features of other rows, not scaled."""
        return self._features(self._table(arrays))

    def scale(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of mean 0 and standard deviation 1 over the rows that were learned from."""
        return np.asarray((features - self.means) / self.spreads, dtype=np.float32)

    def add_to(self, graph: Graph, scaled: bool) -> str:
        """The same in a graph."""
        table = graph.concat(self.names)
        missing = graph.apply("IsNaN", table)
        value = graph.apply("Where", missing, graph.constant(self.medians[None]), table)
        if len(self.kept) < len(self.medians):
            value = graph.apply("Gather", value, graph.constant(self.kept), axis=1)
        if len(self.indicated):
            which = graph.constant(self.indicated.astype(np.int64))
            flags = graph.apply("Gather", missing, which, axis=1)
            value = graph.concat([value, graph.apply("Cast", flags, to=TensorProto.FLOAT)])
        if scaled:
            value = graph.apply("Sub", value, graph.constant(self.means[None]))
            value = graph.apply("Div", value, graph.constant(self.spreads[None]))
        return value

    def describe(self) -> dict[str, Any]:
        """What makes the same of them, scaled, in another language."""
        return {
            "names": self.names,
            "medians": self.medians.tolist(),
            "kept": self.kept.tolist(),
            "indicated": self.indicated.tolist(),
            "means": self.means.tolist(),
            "spreads": self.spreads.tolist(),
        }

    def _table(self, arrays: Arrays) -> NDArray[np.float32]:
        return np.concatenate([arrays[name] for name in self.names], axis=1)

    def _features(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        missing = np.isnan(table)
        filled = np.where(missing, self.medians, table)[:, self.kept]
        return np.concatenate([filled, missing[:, self.indicated]], axis=1, dtype=np.float32)

    def _telling(self, filled: NDArray[np.float32]) -> NDArray[np.int64]:
        """Which columns of a table to keep: all, where none of them says anything."""
        varies = filled.min(axis=0) != filled.max(axis=0)
        for begin in self._dates:
            varies[begin + _WEEKDAY] &= varies[begin + _DAY]
        return np.flatnonzero(varies if varies.any() else ~varies)


class CategoryFeatures:
    """One column of 0 and 1 for each category; a missing value is one, an unknown one is none."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, arrays: Arrays) -> sparse.csr_matrix:
        """Learn from the rows; their features."""
        counts = Counter(arrays[self.name][:, 0].tolist())
        frequent = sorted(counts, key=lambda value: (-counts[value], value))[:MAX_CATEGORIES]
        self.categories = sorted(frequent)
        self._positions = {category: index for index, category in enumerate(self.categories)}
        return self.transform(arrays)

    def transform(self, arrays: Arrays) -> sparse.csr_matrix:
        """The features of other rows."""
        values = arrays[self.name][:, 0].tolist()
        found = [self._positions.get(value, -1) for value in values]
        columns = np.array(found, dtype=np.int64)
        rows = np.flatnonzero(columns >= 0)
        ones = np.ones(len(rows), dtype=np.float32)
        shape = (len(columns), len(self.categories))
        return sparse.csr_matrix((ones, (rows, columns[rows])), shape=shape)

    def add_to(self, graph: Graph) -> str | None:
        """The same in a graph."""
        ones = graph.apply(
            "OneHotEncoder", self.name, domain=ML_DOMAIN, cats_strings=self.categories, zeros=1
        )
        return graph.apply("Flatten", ones, axis=1)

    def describe(self) -> dict[str, Any]:
        """What makes the same in another language."""
        return {"name": self.name, "values": self.categories}


class TextFeatures:
    """TF-IDF of the words of a text, of length 1, as `TfidfVectorizer` has it; see `text`."""

    def __init__(self, name: str, max_features: int) -> None:
        self.name = name
        self._vectorizer = TfidfVectorizer(analyzer=words, max_features=max_features)
        self._is_empty = False

    def fit(self, arrays: Arrays) -> sparse.csr_matrix:
        """Learn from the rows; their features, of which there are none where no row has words."""
        texts = arrays[self.name][:, 0].tolist()
        self._is_empty = not any(map(words, texts))
        if self._is_empty:
            return self.transform(arrays)
        return self._vectorizer.fit_transform(texts).astype(np.float32)

    def transform(self, arrays: Arrays) -> sparse.csr_matrix:
        """The features of other rows."""
        texts = arrays[self.name][:, 0].tolist()
        if self._is_empty:
            return sparse.csr_matrix((len(texts), 0), dtype=np.float32)
        return self._vectorizer.transform(texts).astype(np.float32)

    def add_to(self, graph: Graph) -> str | None:
        """The same in a graph, or None where there are no features."""
        if self._is_empty:
            return None
        positions = self._positions()
        tokens = tokens_of(graph, self.name)
        counts = graph.apply(
            "TfIdfVectorizer", tokens, mode="TF", min_gram_length=1, max_gram_length=1,
            max_skip_count=0, ngram_counts=[0], ngram_indexes=[*positions.values()],
            pool_strings=[*positions],
        )  # fmt: skip
        idf = graph.constant(float_constant(self._vectorizer.idf_[None]))
        weighted = graph.apply("Mul", counts, idf)
        length = graph.apply("ReduceL2", weighted, axes=[1], keepdims=1)
        # A text without a known word has length 0, and stays all zeros.
        tiny = graph.constant(float_constant(1e-12))
        return graph.apply("Div", weighted, graph.apply("Max", length, tiny))

    def describe(self) -> dict[str, Any]:
        """What makes the same in another language, of words cut by `TOKEN_PATTERN`."""
        if self._is_empty:
            return {"name": self.name, "positions": {}, "idf": []}
        idf = self._vectorizer.idf_.tolist()
        return {"name": self.name, "positions": self._positions(), "idf": idf}

    def _positions(self) -> dict[str, int]:
        """The feature that each spelling of each word counts for."""
        return {
            spelling: int(position)
            for word, position in self._vectorizer.vocabulary_.items()
            for spelling in spellings(word)
        }


def tokens_of(graph: Graph, column: str) -> str:
    """The tokens of each text of a string [rows, 1], as `text.words` cuts them, not folded."""
    flat = graph.apply("Reshape", column, graph.constant(np.array([-1])))
    lower = graph.apply(
        "StringNormalizer", flat, case_change_action="LOWER", is_case_sensitive=1, locale="C"
    )
    return graph.apply(
        "Tokenizer", lower, domain=RUNTIME_DOMAIN,
        mark=0, mincharnum=1, pad_value=NO_TOKEN, tokenexp=TOKEN_PATTERN,
    )  # fmt: skip


class Features:
    """All features of a row, side by side: numbers, then categories, then texts."""

    def __init__(self, inputs: Sequence[InputField], max_text_features: int) -> None:
        self.inputs = list(inputs)
        of_numbers = [f for f in inputs if f.kind in ("number", "boolean", "datetime")]
        self._numbers = NumberFeatures(of_numbers) if of_numbers else None
        self._rest: list[CategoryFeatures | TextFeatures] = [
            *(CategoryFeatures(f.name) for f in inputs if f.kind == "category"),
            *(TextFeatures(f.name, max_text_features) for f in inputs if f.kind == "text"),
        ]
        self._is_dense = True

    def fit(self, arrays: Arrays) -> Encoded:
        """Learn from the rows; their features.

        Raises:
            InvalidArgument: there are none, since the only columns are texts without words.
        """
        numbers = self._numbers.fit(arrays) if self._numbers else None
        encoded = _encoded(arrays, numbers, [part.fit(arrays) for part in self._rest])
        if encoded.rest is None:
            return encoded
        rows, width = encoded.rest.shape
        all_width = width + encoded.numbers.shape[1]
        if not all_width:
            names = ", ".join(field.name for field in self.inputs)
            raise InvalidArgument(
                f"The texts of {names} hold no words to learn from.",
                "Make the column a category (config.columns), or use other columns.",
            )
        self._is_dense = rows * all_width <= _DENSE_CELLS and width <= _DENSE_WIDTH
        return encoded

    def transform(self, arrays: Arrays) -> Encoded:
        """The features of other rows."""
        numbers = self._numbers.transform(arrays) if self._numbers else None
        return _encoded(arrays, numbers, [part.transform(arrays) for part in self._rest])

    def matrix(self, encoded: Encoded, scaled: bool) -> Matrix:
        """float64 [rows, features] of float32 values; sparse where that is much smaller.

        `scaled` gives the numbers mean 0 and standard deviation 1.
        """
        numbers = encoded.numbers
        if scaled and self._numbers:
            numbers = self._numbers.scale(numbers)
        if encoded.rest is None:
            return numbers.astype(np.float64)
        if self._is_dense:
            return np.hstack([numbers, encoded.rest.toarray()]).astype(np.float64)
        parts = [sparse.csr_matrix(numbers), encoded.rest]
        return sparse.hstack(parts, format="csr", dtype=np.float64)

    def add_inputs_to(self, graph: Graph) -> None:
        """The raw columns as a graph's inputs."""
        for field in self.inputs:
            element = TensorProto.STRING if field.dtype == "string" else TensorProto.FLOAT
            graph.input(field.name, element, field.shape[1] or 1)

    def add_to(self, graph: Graph, scaled: bool) -> str:
        """The raw columns as inputs, and of them the float32 matrix, whose name is returned."""
        self.add_inputs_to(graph)
        return self.add_matrix_to(graph, scaled)

    def add_matrix_to(self, graph: Graph, scaled: bool) -> str:
        """The float32 matrix in a graph that has the inputs; its name."""
        parts = [self._numbers.add_to(graph, scaled)] if self._numbers else []
        parts += [value for part in self._rest if (value := part.add_to(graph)) is not None]
        return graph.concat(parts)

    def describe(self) -> dict[str, Any]:
        """What makes the same matrix, its numbers scaled, in another language; JSON."""
        parts = self._rest
        return {
            "inputs": [{"name": field.name, "kind": field.kind} for field in self.inputs],
            "numbers": self._numbers.describe() if self._numbers else None,
            "categories": [p.describe() for p in parts if isinstance(p, CategoryFeatures)],
            "texts": [p.describe() for p in parts if isinstance(p, TextFeatures)],
            "word_pattern": TOKEN_PATTERN,
        }


def width_of(inputs: Sequence[InputField], arrays: Arrays) -> int:
    """About how many features the inputs make, texts aside."""
    of_categories = [arrays[f.name][:, 0].tolist() for f in inputs if f.kind == "category"]
    return sum(min(MAX_CATEGORIES, len(set(values))) for values in of_categories) + sum(
        f.shape[1] or 1 for f in inputs if f.dtype == "float32"
    )


def take(arrays: Mapping[str, NDArray[Any]], rows: NDArray[np.intp]) -> Arrays:
    """Those rows of all arrays."""
    return {name: array[rows] for name, array in arrays.items()}


def _encoded(
    arrays: Arrays, numbers: NDArray[np.float32] | None, rest: list[sparse.csr_matrix]
) -> Encoded:
    if numbers is None:
        rows = len(next(iter(arrays.values())))
        numbers = np.empty((rows, 0), dtype=np.float32)
    return Encoded(numbers, sparse.hstack(rest, format="csr") if rest else None)
