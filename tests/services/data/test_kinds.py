import random
import uuid
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import palmerpenguins
import polars as pl
import pytest
from sklearn import datasets as sklearn_datasets

from mcp_hub.services.data.kinds import infer_kinds, numbers_as_text
from mcp_hub.services.data.reading import read_frame

PENGUINS = Path(palmerpenguins.__file__).parent / "data"
WORDS = ["the", "a", "film", "was", "very", "good", "bad", "not", "slow", "story", "music"]


def kind(values: list[Any], name: str = "x", rows: int | None = None) -> str:
    """The kind of a column among two useful others."""
    count = rows or len(values)
    frame = pl.DataFrame(
        {
            "p": [0.5 + i % 7 for i in range(count)],
            name: (values * count)[:count],
            "q": [0.25 + i % 3 for i in range(count)],
        }
    )
    return infer_kinds(frame)[name]


def sentences(count: int) -> list[str]:
    generator = random.Random(0)
    return [" ".join(generator.choices(WORDS, k=8)) for _ in range(count)]


def test_numbers() -> None:
    generator = random.Random(0)
    assert kind([generator.random() for _ in range(100)]) == "number"
    assert kind([float(i) for i in range(100)]) == "number"
    assert kind([generator.randrange(10**6) for _ in range(100)]) == "number"
    assert kind([1, 2, 3], rows=100) == "number"
    assert kind([2007, 2008, 2009], "year", rows=100) == "number"
    assert kind([1, None], rows=30) == "number"


def test_booleans_and_constants() -> None:
    assert kind([True, False, None], rows=10) == "boolean"
    assert kind(["yes"], rows=10) == "constant"
    assert kind([3.5], rows=10) == "constant"
    assert kind([True], rows=10) == "constant"
    assert kind([None], rows=10) == "constant"
    assert kind(["yes", None], rows=10) == "category"


def test_categories() -> None:
    assert kind(["red", "green", "blue"], rows=30) == "category"
    assert kind(["New York", "San Diego", "Paris"], rows=30) == "category"
    assert kind(["I strongly agree with this", "I do not agree at all"], rows=40) == "category"
    assert kind([f"v{i}" for i in range(10)]) == "category"  # few rows: not yet an identifier


def test_codes_are_categories_by_their_name() -> None:
    assert kind([90210, 10001, 60601], "zip", rows=30) == "category"
    assert kind([3, 5, 7], "species_id", rows=30) == "category"
    assert kind([3, 5, 7], "productCode", rows=30) == "category"
    assert kind([3, 5, 7], "barcodes", rows=30) == "number"
    assert kind([3, 5, 7], "paid", rows=30) == "number"


def test_identifiers() -> None:
    shuffled = random.Random(0).sample(range(1000, 9999), 100)
    assert kind(shuffled, "customer_id") == "identifier"
    assert kind(shuffled, "PassengerId") == "identifier"
    assert kind(shuffled, "amount") == "number"
    assert kind([str(uuid.uuid4()) for _ in range(30)]) == "identifier"
    assert kind([f"N{i:04}A" for i in range(30)]) == "identifier"
    assert kind([f"a{i}@example.org" for i in range(30)]) == "identifier"
    assert kind(["x1", "x2", "x3"], "sample-id") == "identifier"
    assert kind([[1, 2], [3]], rows=4) == "identifier"
    assert kind([b"x", b"y"], rows=4) == "identifier"


@pytest.mark.parametrize("start", [0, 1])
def test_row_numbers_in_the_first_column(start: int) -> None:
    frame = pl.DataFrame(
        {
            "n": range(start, start + 100),
            "x": [i % 9 for i in range(100)],
            "y": [i % 4 for i in range(100)],
            "later": range(start, start + 100),
        }
    )
    assert infer_kinds(frame) == {
        "n": "identifier",
        "x": "number",
        "y": "number",
        "later": "number",
    }
    assert infer_kinds(frame, "n")["n"] == "number"
    assert infer_kinds(frame.head(10))["n"] == "number"
    assert infer_kinds(frame[::-1])["n"] == "number"


def test_a_sequence_is_kept_where_it_is_all_there_is() -> None:
    frame = pl.DataFrame({"x": range(100), "y": [2.0 * i for i in range(100)]})
    assert infer_kinds(frame) == {"x": "number", "y": "number"}
    assert infer_kinds(frame, "y") == {"x": "number", "y": "number"}
    words = pl.DataFrame({"word": [f"w{i}" for i in range(40)], "label": ["a", "b"] * 20})
    assert infer_kinds(words, "label")["word"] == "category"


def test_the_target_is_no_identifier() -> None:
    frame = pl.DataFrame(
        {"a": [1.5, 2.5] * 20, "y_id": range(40), "code": [f"c{i}" for i in range(40)]}
    )
    assert infer_kinds(frame, "y_id")["y_id"] == "number"
    assert infer_kinds(frame, "code")["code"] == "category"


def test_texts() -> None:
    assert kind(sentences(200)) == "text"
    assert kind(sentences(5)) == "text"
    assert kind(sentences(60), rows=600) == "text"  # long and many, though repeated
    assert kind(["这是一部很好的电影", "我不喜欢这个东西啊", "非常好的产品值得购买"]) == "text"
    assert kind([f"Mr. John Smith {i}" for i in range(100)]) == "text"
    assert infer_kinds(pl.DataFrame({"t": sentences(9), "y": ["a", "b", "c"] * 3}), "y") == {
        "t": "text",
        "y": "category",
    }


def test_dates() -> None:
    days = [date(2024, 1, 1) + timedelta(days=i) for i in range(40)]
    assert kind(days) == "datetime"
    assert kind([str(day) for day in days]) == "datetime"
    assert kind([day.strftime("%d.%m.%Y") for day in days]) == "datetime"
    assert kind([*map(str, days[:39]), "unknown"]) == "identifier"


def test_numbers_as_text() -> None:
    assert numbers_as_text(pl.Series(["$1,234.50", "€ 3", None]))
    assert numbers_as_text(pl.Series(["5 %", "-3%", "(4)"]))
    assert not numbers_as_text(pl.Series(["$1", "free"]))
    assert not numbers_as_text(pl.Series([None], dtype=pl.String))
    assert kind([f"${i},000" for i in range(40)]) == "category"


def test_penguins() -> None:
    frame = read_frame(PENGUINS / "penguins.csv", "csv")
    kinds = infer_kinds(frame, "species")
    assert {name for name in kinds if kinds[name] == "category"} == {"species", "island", "sex"}
    assert {kinds[name] for name in kinds if name.endswith(("_mm", "_g", "year"))} == {"number"}
    raw = infer_kinds(read_frame(PENGUINS / "penguins-raw.csv", "csv"), "Species")
    assert raw["Individual ID"] == "identifier"
    assert raw["Sample Number"] == "number"
    assert raw["Date Egg"] == "datetime"
    assert raw["Region"] == raw["Stage"] == "constant"


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits", "diabetes"])
def test_scikit_learns_data_sets_are_all_numbers(name: str) -> None:
    bunch = getattr(sklearn_datasets, f"load_{name}")()
    columns = {f"f{i}": bunch.data[:, i] for i in range(bunch.data.shape[1])}
    kinds = infer_kinds(pl.DataFrame({**columns, "target": bunch.target}), "target")
    assert set(kinds.values()) <= {"number", "constant"}
    assert list(kinds.values()).count("constant") == (3 if name == "digits" else 0)
