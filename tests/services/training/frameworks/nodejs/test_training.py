"""Networks trained by TensorFlow.js for real: what they score, what is kept, what is served."""

import json
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import palmerpenguins
import polars as pl
import pytest

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded
from mcp_hub.services.training.frameworks.base import Place
from mcp_hub.services.training.frameworks.nodejs import preparing
from mcp_hub.services.training.frameworks.nodejs.finding import find_node
from mcp_hub.services.training.frameworks.nodejs.installing import installed
from tests.services.training.frameworks.nodejs.conftest import Train
from tests.services.training.frameworks.sklearn.conftest import Trained

BROWSER = Path(__file__).parent / "browser.mjs"


@pytest.fixture(scope="module")
def penguins() -> pl.DataFrame:
    file = Path(palmerpenguins.__file__).parent / "data" / "penguins.csv"
    return pl.read_csv(file, null_values="NA")


@pytest.fixture(scope="module")
def mixed() -> pl.DataFrame:
    """Numbers, some missing, booleans, categories, dates and texts, which all tell of y."""
    drawn = np.random.default_rng(0)
    rows = 240
    up = drawn.random(rows) < 0.5
    size = np.where(up, 1.0, -1.0) + drawn.normal(size=rows)
    words = np.where(up, "Über großartig 東京 fine", "schlecht BAD ΚΑΚΟ")
    extra = drawn.choice(["once", "Twice", "__proto__", ""], rows)
    start = datetime(2024, 2, 28, 22, 30)  # noqa: DTZ001 - as files have them
    return pl.DataFrame(
        {
            "size": [None if drawn.random() < 0.1 else float(value) for value in size],
            "flag": [bool(value) for value in drawn.random(rows) < np.where(up, 0.8, 0.2)],
            "code": pl.Series(drawn.choice(["a", "b", "ß"], rows)).replace("ß", None),
            "seen": [start + timedelta(hours=7 * index) for index in range(rows)],
            "note": [
                f"{a} {b} {n} and so on" for n, (a, b) in enumerate(zip(words, extra, strict=True))
            ],
            "y": np.where(up, "up", "down"),
            "amount": size * 1000 + 5,
        }
    )


def in_a_browser(
    trained: Trained, rows: list[dict[str, Any]], place: Place, served: Path
) -> list[dict[str, Any]]:
    """The answers of the kept model, loaded over HTTP by `tf.loadLayersModel`, to raw rows."""
    for event in trained.of("artifact"):
        (served / event["name"]).write_bytes(Path(event["path"]).read_bytes())
    assert place.cache is not None
    node = find_node(place.node)
    packages = installed(node, place.cache, lambda text: None)
    done = subprocess.run(
        [node.program, BROWSER, served, packages],
        input=json.dumps(rows), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def test_classes_of_real_data_are_learned(train: Train, penguins: pl.DataFrame) -> None:
    trained = train(penguins, "species", "classification", epochs=40)
    assert trained.metrics["accuracy"] > 0.93
    assert trained.params["rows_held_out"] == 69
    assert trained.params["agreement"]["difference"] < 1e-5
    losses = trained.series("train_loss")
    assert [step for step, _ in losses] == list(range(trained.params["epochs"]["run"]))
    assert losses[-1][1] < losses[0][1] / 3
    assert len(trained.series("validation_loss")) == len(losses)
    done = [event["done"] for event in trained.of("progress")]
    assert done == sorted(done)
    assert done[-1] == trained.of("progress")[-1]["total"] == 42
    assert {event["name"] for event in trained.of("artifact")} == {
        "confusion_matrix.json", "model.json", "weights.bin", "preprocessing.json", "prepare.mjs",
    }  # fmt: skip
    assert trained.artifact("model.json")["format"] == "layers-model"


def test_numbers_are_learned_and_the_same_seed_gives_the_same(
    train: Train, penguins: pl.DataFrame
) -> None:
    trained, again, other = (
        train(penguins, "body_mass_g", "regression", epochs=60, seed=seed) for seed in (3, 3, 4)
    )
    assert trained.metrics["r2"] > 0.7
    assert trained.series("train_loss") == again.series("train_loss")
    assert trained.metrics == again.metrics
    assert trained.series("train_loss") != other.series("train_loss")


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "elu"])
def test_a_browser_gets_what_the_hub_serves_of_any_columns(
    train: Train, mixed: pl.DataFrame, activation: str, place: Place, tmp_path: Path
) -> None:
    trained = train(
        mixed, "y", "classification",
        activation=activation, dropout=0.1, layers=[16, 8], epochs=6, drop=["amount"],
        columns={"note": "text", "code": "category"},
    )  # fmt: skip
    kinds = {field.kind for field in trained.signature.inputs}
    assert kinds == {"number", "boolean", "category", "datetime", "text"}
    row = {"size": 0.5, "flag": True, "code": "a", "seen": "2024-03-01T07:30:00", "note": "fine"}
    rows = [
        row,
        dict.fromkeys(row),
        row | {"note": "ÜBER 東京 🙂 constructor __proto__ Fine", "code": "unseen", "flag": False},
        row | {"seen": "2023-12-31T23:30:00-02:00", "size": -3.25},
        row | {"seen": "1969-07-20"},
    ]
    labels, table = trained.predict(rows)
    answers = in_a_browser(trained, rows, place, tmp_path)
    assert [answer["prediction"] for answer in answers] == list(labels)
    assert np.allclose([a["probabilities"] for a in answers], table, atol=1e-5)


def test_a_browser_gets_numbers_in_their_own_unit(
    train: Train, mixed: pl.DataFrame, place: Place, tmp_path: Path
) -> None:
    trained = train(mixed, "amount", "regression", layers=[], epochs=30, learning_rate=0.05)
    assert trained.metrics["r2"] > 0.9
    row = {"size": 1.5, "flag": True, "code": None, "seen": None, "note": None, "y": "up"}
    row = {field.name: row[field.name] for field in trained.signature.inputs}
    (served,) = trained.predict([row])
    (answer,) = in_a_browser(trained, [row], place, tmp_path)
    assert answer["prediction"] == pytest.approx(float(served[0, 0]), rel=1e-4)


def test_it_stops_when_the_loss_falls_no_more(train: Train, penguins: pl.DataFrame) -> None:
    trained = train(
        penguins, "species", "classification", patience=2, epochs=500, learning_rate=0.05
    )
    run, best = trained.params["epochs"]["run"], trained.params["epochs"]["best"]
    assert run < 500
    assert run - 1 - best == 2
    watched = dict(trained.series("validation_loss"))
    assert watched[best] == min(watched.values())
    assert trained.of("model")[-1]["metrics"]["validation_loss"] == watched[best]


def test_few_rows_are_all_learned_from(train: Train) -> None:
    frame = pl.DataFrame({"x": [float(n) for n in range(20)], "y": ["a"] * 10 + ["b"] * 10})
    trained = train(frame, "y", "classification", epochs=3)
    assert trained.params["rows_validated"] == 0
    assert not trained.series("validation_loss")


def test_a_network_that_diverges_says_so(train: Train, mixed: pl.DataFrame) -> None:
    with pytest.raises(InvalidArgument, match="diverged") as caught:
        train(mixed, "amount", "regression", learning_rate=10, layers=[64] * 10, epochs=5)
    assert "learning_rate" in (caught.value.hint or "")


def test_a_matrix_that_would_not_fit_is_refused(
    train: Train, mixed: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "_MOST_CELLS", 100)
    with pytest.raises(LimitExceeded, match="takes at most 100"):
        train(mixed, "y", "classification")


def test_an_absent_target_is_told(train: Train, penguins: pl.DataFrame) -> None:
    with pytest.raises(InvalidArgument, match="no column"):
        train(penguins, "specie", "classification")
