from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from onnx import TensorProto, helper

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, NotFound, Unavailable
from mcp_hub.services.data.service import DataService
from mcp_hub.services.inference.service import InferenceService
from mcp_hub.services.inference.sessions import estimated_bytes
from mcp_hub.services.registry.service import RegistryService
from mcp_hub.services.registry.store import NewVersion, add_version
from mcp_hub.services.registry.views import Artifact, InputField, OutputField, Signature
from tests.services import onnx_models
from tests.services.onnx_models import Trained

Add = Callable[..., Awaitable[str]]


@pytest.fixture
def inference(database: SqliteDatabase, blobs: FileBlobStore) -> InferenceService:
    return InferenceService(database, blobs, cache_bytes=64 << 20, threads=2)


@pytest.fixture
def registry(
    database: SqliteDatabase, blobs: FileBlobStore, bus: DatabaseBus, tmp_path: Path
) -> RegistryService:
    return RegistryService(database, blobs, bus, roots=[tmp_path])


@pytest.fixture
def add(database: SqliteDatabase, blobs: FileBlobStore) -> Add:
    """Adds a version that serves these bytes; its reference."""

    async def add(
        name: str, onnx: bytes, signature: Signature, artifact: str = "model.onnx",
        dataset: str | None = None,
    ) -> str:  # fmt: skip
        blob = await blobs.put(onnx)
        artifacts = [Artifact(name=artifact, sha256=blob.sha256, bytes=blob.size)]
        new = NewVersion(name, "onnx", signature, artifacts, "tester", dataset=dataset)
        return f"{name}:{await database.write(partial(add_version, new=new))}"

    return add


@pytest.fixture
async def iris(add: Add) -> Trained:
    trained = onnx_models.iris()
    await add("iris", trained.onnx, trained.signature)
    return trained


@pytest.mark.parametrize("name", ["iris", "cancer", "floats"])
async def test_classifiers_predict_as_scikit_learn_does(
    inference: InferenceService, add: Add, name: str
) -> None:
    trained: Trained = getattr(onnx_models, name)()
    reference = await add(name, trained.onnx, trained.signature)
    answer = await inference.predict(name, trained.rows(150))
    assert answer.model == reference
    expected = trained.estimator.predict(trained.x[:150]).tolist()
    assert answer.predictions == expected
    assert set(map(type, answer.predictions)) == set(map(type, expected))
    assert answer.probabilities is not None
    table = np.array([list(row.values()) for row in answer.probabilities])
    assert np.abs(table - trained.estimator.predict_proba(trained.x[:150])).max() < 2e-6


async def test_regressions_predict_as_scikit_learn_does(
    inference: InferenceService, add: Add
) -> None:
    trained = onnx_models.diabetes()
    await add("diabetes", trained.onnx, trained.signature)
    answer = await inference.predict("diabetes", trained.rows(442))
    expected = trained.estimator.predict(trained.x)
    assert answer.probabilities is None
    assert np.allclose(answer.predictions, expected, rtol=1e-5)


async def test_a_row_alone_is_predicted_as_among_others(
    inference: InferenceService, iris: Trained
) -> None:
    together = await inference.predict("iris", iris.rows(150))
    alone = await inference.predict("iris", iris.rows(150)[149:])
    assert alone.predictions == together.predictions[149:]


@pytest.mark.parametrize("zipmap", [False, True])
async def test_a_registered_file_is_served(
    inference: InferenceService, registry: RegistryService, tmp_path: Path, zipmap: bool
) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx_models.matrix_file(zipmap))
    await registry.register("m", "m.onnx", created_by="tester")
    answer = await inference.predict("m", [{"X": row} for row in onnx_models.iris().x.tolist()])
    assert answer.predictions[:3] == [0, 0, 0]
    assert answer.probabilities is not None
    assert list(answer.probabilities[0]) == ["0", "1", "2"]
    assert abs(sum(v for v in answer.probabilities[0].values() if v is not None) - 1) < 1e-5


async def test_a_moved_alias_is_followed_at_once(
    inference: InferenceService, registry: RegistryService, iris: Trained, add: Add
) -> None:
    other = onnx_models.iris(0.01)
    await add("iris", other.onnx, other.signature)
    for version in (1, 2, 1):
        await registry.promote(f"iris:{version}", "champion", decided_by="tester")
        answer = await inference.predict("iris@champion", iris.rows(1))
        assert answer.model == f"iris:{version}"
    assert (await inference.predict("iris", iris.rows(1))).model == "iris:2"


@pytest.mark.parametrize(
    ("reference", "error", "hint"),
    [
        ("irsi", NotFound, "Did you mean 'iris'?"),
        ("iris:2", NotFound, "Its versions: 1."),
        ("iris@champion", NotFound, "There are no aliases of 'iris' yet."),
        ("iris:x", InvalidArgument, "'name@alias' or 'name:version'"),
    ],
)
async def test_unknown_models(
    inference: InferenceService,
    iris: Trained,
    reference: str,
    error: type[Exception],
    hint: str,
) -> None:
    with pytest.raises(error) as refused:
        await inference.predict(reference, iris.rows(1))
    assert hint in refused.value.hint  # type: ignore[attr-defined]


async def test_a_deleted_model_says_how_to_restore_it(
    inference: InferenceService, registry: RegistryService, iris: Trained
) -> None:
    await inference.predict("iris", iris.rows(1))
    await registry.delete("iris:1")
    for reference, message in (
        ("iris:1", "iris:1 was deleted"),
        ("iris", "Every version of 'iris' was deleted"),
    ):
        with pytest.raises(NotFound, match=message) as refused:
            await inference.predict(reference, iris.rows(1))
        assert f"model_delete(model={reference!r}, restore=true)" in (refused.value.hint or "")
    await registry.delete("iris", restore=True)
    assert (await inference.predict("iris", iris.rows(1))).model == "iris:1"


GOOD = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@pytest.mark.parametrize(
    ("rows", "message", "hint"),
    [
        ([], "no rows", "sepal_length"),
        ([GOOD, {**GOOD, "colour": 1}], "Row 1 has the column 'colour'", "petal_length"),
        ([{"sepal_length": 5.1}], "Row 0 lacks the columns", "sepal_width"),
        ([{**GOOD, "petal_width": "wide"}], "column 'petal_width': 'wide'", "takes a number"),
        ([{**GOOD, "petal_width": float("inf")}], "is not finite", "takes a number"),
        ([{**GOOD, "petal_width": True}], "column 'petal_width': true", "takes a number"),
        ([[5.1, 3.5, 1.4, 0.2]], "Row 0 is [5.1", "sepal_length"),
    ],
)
async def test_rows_that_do_not_fit_are_told_with_the_columns(
    inference: InferenceService, iris: Trained, rows: list[Any], message: str, hint: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await inference.predict("iris", rows)
    assert message in refused.value.message
    assert hint in (refused.value.hint or "")
    assert (await inference.predict("iris", [GOOD])).predictions == ["setosa"]


async def test_rows_have_a_limit(inference: InferenceService, iris: Trained) -> None:
    answer = await inference.predict("iris", [GOOD] * 10_000)
    assert len(answer.predictions) == 10_000
    with pytest.raises(LimitExceeded, match="10,001 rows were given") as refused:
        await inference.predict("iris", [GOOD] * 10_001)
    assert "Split the rows" in (refused.value.hint or "")


async def test_a_missing_number_is_no_fault_where_it_may_be_missing(
    inference: InferenceService, iris: Trained
) -> None:
    answer = await inference.predict("iris", [{**GOOD, "petal_width": None}])
    assert answer.probabilities == [{"setosa": None, "versicolor": None, "virginica": None}]


@pytest.mark.parametrize("damage", ["missing", "truncated", "replaced"])
async def test_a_file_that_is_lost_or_damaged_is_unavailable(
    inference: InferenceService, iris: Trained, add: Add, tmp_path: Path, damage: str
) -> None:
    other = onnx_models.cancer()
    await add("cancer", other.onnx, other.signature)
    [file] = [
        path
        for path in (tmp_path / "blobs").rglob("*")
        if path.is_file() and path.read_bytes() == iris.onnx
    ]
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(iris.onnx[:100] if damage == "truncated" else other.onnx)
    with pytest.raises(Unavailable, match=r"iris:1 cannot be served: .*\.$") as refused:
        await inference.predict("iris", [GOOD])
    assert refused.value.hint
    assert len((await inference.predict("cancer", other.rows(2))).predictions) == 2
    file.write_bytes(iris.onnx)
    assert (await inference.predict("iris", [GOOD])).predictions == ["setosa"]


async def test_stored_bytes_that_are_no_onnx_are_unavailable(
    inference: InferenceService, iris: Trained, add: Add
) -> None:
    await add("pickled", b"\x80\x04\x95.", iris.signature)
    with pytest.raises(Unavailable, match="pickled:1 cannot be served"):
        await inference.predict("pickled", [GOOD])


async def test_a_version_without_onnx_cannot_predict(
    inference: InferenceService, iris: Trained, add: Add
) -> None:
    await add("other", b"x", iris.signature, artifact="weights.bin")
    with pytest.raises(InvalidArgument, match=r"other:1 cannot predict: it has no model\.onnx"):
        await inference.predict("other", [GOOD])


async def test_a_model_that_fails_on_its_inputs_says_so(
    inference: InferenceService, add: Add
) -> None:
    matrix = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "k"])
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3, 1], [1.0, 1.0, 1.0])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [matrix], [result], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    signature = Signature(
        inputs=[InputField(name="x", dtype="float32", shape=[None, None])],
        outputs=[OutputField(name="y", dtype="float32", shape=[None, 1], role="prediction")],
    )
    await add("sum", made.SerializeToString(), signature)
    assert (await inference.predict("sum", [{"x": [1.0, 2.0, 3.0]}])).predictions == [6.0]
    with pytest.raises(InvalidArgument, match="sum:1 failed on these inputs") as refused:
        await inference.predict("sum", [{"x": [1.0, 2.0]}])
    assert "model_get" in (refused.value.hint or "")


async def test_twenty_first_calls_load_once(inference: InferenceService, iris: Trained) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(inference.predict, "iris", [GOOD])
    assert (inference.sessions.loaded, inference.sessions.held) == (1, 1)
    assert inference.sessions.bytes == estimated_bytes(len(iris.onnx))


async def test_versions_of_the_same_bytes_share_a_session(
    inference: InferenceService, iris: Trained, add: Add
) -> None:
    await add("copy", iris.onnx, iris.signature)
    for name in ("iris", "copy"):
        await inference.predict(name, [GOOD])
    assert inference.sessions.loaded == 1


async def test_sessions_stay_within_the_budget(
    database: SqliteDatabase, blobs: FileBlobStore, add: Add
) -> None:
    models = [onnx_models.iris(strength) for strength in (0.01, 0.1, 1.0)]
    for trained in models:
        await add("iris", trained.onnx, trained.signature)
    room_for_two = int(2.5 * estimated_bytes(len(models[0].onnx)))
    inference = InferenceService(database, blobs, cache_bytes=room_for_two, threads=1)
    for version in (1, 2, 1, 3, 1, 2):
        await inference.predict(f"iris:{version}", [GOOD])
        assert inference.sessions.bytes <= room_for_two
    assert (inference.sessions.held, inference.sessions.loaded) == (2, 4)
    assert inference.sessions.evicted == 2


async def test_a_row_of_the_training_data_is_taken_as_it_is(
    inference: InferenceService, add: Add, database: SqliteDatabase, blobs: FileBlobStore,
    bus: DatabaseBus, tmp_path: Path,
) -> None:  # fmt: skip
    trained = onnx_models.iris()
    rows = trained.rows(3)
    whole = [{"id": 7, **row, "species": "setosa"} for row in rows]
    data = DataService(database, blobs, bus, roots=[tmp_path], max_bytes=1_000_000)
    header = ",".join(whole[0])
    line = ",".join(str(value) for value in whole[0].values())
    await data.register("flowers", content=f"{header}\n{line}\n", format="csv")
    await add("iris", trained.onnx, trained.signature, dataset="flowers:1")
    assert await inference.predict("iris", whole) == await inference.predict("iris", rows)
    with pytest.raises(InvalidArgument, match="Row 0 has the column 'idd', which"):
        await inference.predict("iris", [{"idd": 7, **whole[0]}])
    del whole[1][next(iter(rows[0]))]
    with pytest.raises(InvalidArgument, match="Row 1 lacks"):
        await inference.predict("iris", whole)
