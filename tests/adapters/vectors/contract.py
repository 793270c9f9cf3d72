"""What every collection of vectors promises. An implementation's test class gives
`open_vectors`."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray

from mcp_hub.adapters.errors import Conflict, InvalidArgument
from mcp_hub.adapters.vectors.port import Vectors
from tests.spawning import Processes

OpenVectors = Callable[[], AbstractAsyncContextManager[Vectors]]

PAYLOAD: dict[str, Any] = {
    "text": "ü🚀\n\"'", "number": 1, "float": 0.5, "truth": True, "nothing": None,
    "tags": ["a", "b"], "dotted.key": "x", "nested": {"deep": [1, {"er": None}]}, "": "empty",
}  # fmt: skip


def rows(*values: list[float]) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def random_rows(count: int, dimensions: int, seed: int = 0) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((count, dimensions)).astype(np.float32)


async def found(vectors: Vectors, where: Mapping[str, Any] | None = None) -> set[str]:
    return {hit.id for hit in await vectors.search(rows([1, 0])[0], limit=100, where=where)}


class VectorsContract:
    # Rows that are stored to be searched, and to be deleted.
    many = 10_000
    doomed = 1_200

    @pytest.fixture
    def open_vectors(self) -> OpenVectors:
        """A picklable function that opens the same collection, in any process."""
        raise NotImplementedError

    @pytest.fixture
    async def vectors(self, open_vectors: OpenVectors) -> AsyncIterator[Vectors]:
        async with open_vectors() as vectors:
            yield vectors

    async def test_a_collection_without_rows(self, vectors: Vectors) -> None:
        assert await vectors.count() == 0
        assert await vectors.search(rows([1, 0])[0]) == []
        await vectors.delete(["nobody"])
        assert await vectors.present(["nobody"]) == set()
        assert await vectors.check()

    async def test_which_rows_are_present(self, vectors: Vectors) -> None:
        ids = [f"row {number}" for number in range(600)]
        await vectors.upsert(ids, random_rows(600, 2))
        await vectors.delete(ids[:1])
        assert await vectors.present(["absent", *ids]) == set(ids[1:])
        assert await vectors.present([]) == set()

    async def test_the_nearest_come_first(self, vectors: Vectors) -> None:
        matrix = rows([0, 1], [5, 5], [-3, 0], [0.1, 0], [0, 0])
        await vectors.upsert(["up", "diagonal", "back", "ahead", "zero"], matrix)
        hits = await vectors.search(rows([2, 0.2])[0], limit=5)
        assert [hit.id for hit in hits] == ["ahead", "diagonal", "up", "zero", "back"]
        cosines = [0.99504, 0.77397, 0.09950, 0, -0.99504]
        assert [hit.score for hit in hits] == pytest.approx(cosines, abs=1e-4)
        assert hits == await vectors.search(rows([2, 0.2])[0], limit=100)
        assert hits[:2] == await vectors.search(rows([2, 0.2])[0], limit=2)
        assert all(hit.payload == {} for hit in hits)

    async def test_keeps_payloads_and_ids_as_they_are(self, vectors: Vectors) -> None:
        ids = ["x" * 256, "ü🚀", "with space/and:more", "00000000-0000-0000-0000-000000000001"]
        await vectors.upsert(ids, random_rows(4, 2), [PAYLOAD, {}, {}, {}])
        hits = await vectors.search(rows([1, 0])[0])
        assert {hit.id: hit.payload for hit in hits} == {
            id_: PAYLOAD if id_ == ids[0] else {} for id_ in ids
        }
        hits[0].payload["changed"] = True
        assert "changed" not in (await vectors.search(rows([1, 0])[0]))[0].payload

    async def test_replaces_a_row_whole(self, vectors: Vectors) -> None:
        await vectors.upsert(["a", "b"], rows([1, 0], [0, 1]), [{"old": 1}, {"b": 1}])
        assert (await vectors.search(rows([1, 0])[0], limit=1))[0].id == "a"
        await vectors.upsert(["a", "c"], rows([-1, 0], [1, 1]), [{"new": 2}, {}])
        assert await vectors.count() == 3
        hits = await vectors.search(rows([1, 0])[0])
        assert [(hit.id, hit.payload) for hit in hits] == [
            ("c", {}), ("b", {"b": 1}), ("a", {"new": 2}),
        ]  # fmt: skip

    async def test_deletes(self, vectors: Vectors) -> None:
        ids = [str(number) for number in range(self.doomed)]
        await vectors.upsert(ids, random_rows(self.doomed, 2))
        await vectors.search(rows([1, 0])[0])
        await vectors.delete([*ids[:-10], "nobody"])
        assert await vectors.count() == 10
        assert await found(vectors) == set(ids[-10:])
        await vectors.delete([])
        await vectors.delete(ids)
        assert await vectors.count() == 0
        assert await found(vectors) == set()
        await vectors.upsert(ids[:1], random_rows(1, 2))
        assert await found(vectors) == {"0"}

    async def test_filters_by_values_of_the_payload(self, vectors: Vectors) -> None:
        payloads = [PAYLOAD, {"number": True, "text": "1"}, {"number": 2, "tags": "a"}, {}]
        await vectors.upsert(["all", "one", "two", "none"], random_rows(4, 2), payloads)
        assert await found(vectors, {}) == {"all", "one", "two", "none"}
        assert await found(vectors, {"number": 1}) == {"all"}
        assert await found(vectors, {"number": True}) == {"one"}
        assert await found(vectors, {"number": "1"}) == set()
        assert await found(vectors, {"text": PAYLOAD["text"]}) == {"all"}
        assert await found(vectors, {"tags": "a"}) == {"all", "two"}
        assert await found(vectors, {"tags": "a", "number": 2}) == {"two"}
        assert await found(vectors, {"dotted.key": "x"}) == {"all"}
        assert await found(vectors, {"missing": "x"}) == set()

    async def test_the_limit_counts_rows_that_the_filter_leaves(self, vectors: Vectors) -> None:
        matrix = np.stack([np.ones(50), np.arange(50)], axis=1).astype(np.float32)
        payloads = [{"even": number % 2 == 0} for number in range(50)]
        await vectors.upsert([str(number) for number in range(50)], matrix, payloads)
        hits = await vectors.search(rows([1, 0])[0], limit=3, where={"even": False})
        assert [hit.id for hit in hits] == ["1", "3", "5"]

    async def test_refuses_what_makes_no_sense(self, vectors: Vectors) -> None:
        one = rows([1, 0])
        for ids, matrix, payloads in [
            (["a", "b"], one, None),
            (["a"], one, []),
            (["a"], one[0], None),
            (["a"], np.empty((1, 0), np.float32), None),
            (["a", "a"], rows([1, 0], [0, 1]), None),
            ([""], one, None),
            (["x" * 257], one, None),
            (["a"], rows([float("nan"), 0]), None),
            (["a"], np.array([[1e60, 0]]), None),
            (["a"], one, [{"x": float("inf")}]),
            (["a"], one, [{"x": b"bytes"}]),
        ]:
            with pytest.raises(InvalidArgument) as raised:
                await vectors.upsert(ids, matrix, payloads)  # type: ignore[arg-type]
            assert raised.value.hint
        for vector, options in [
            (one, {}),
            (rows([])[0], {}),
            (rows([float("inf"), 0])[0], {}),
            (one[0], {"limit": 0}),
            (one[0], {"where": {"x": 0.5}}),
            (one[0], {"where": {"x": None}}),
            (one[0], {"where": {'x"y': 1}}),
        ]:
            with pytest.raises(InvalidArgument):
                await vectors.search(vector, **options)
        assert await vectors.count() == 0

    async def test_other_dimensions_are_refused_by_both_numbers(
        self, vectors: Vectors, open_vectors: OpenVectors
    ) -> None:
        await vectors.upsert(["a"], random_rows(1, 384))
        for ask in (
            partial(vectors.upsert, ["b"], random_rows(1, 256)),
            partial(vectors.search, random_rows(1, 256)[0]),
        ):
            with pytest.raises(Conflict, match=r"384.*256"):
                await ask()
        assert await vectors.count() == 1
        await vectors.delete(["a"])
        with pytest.raises(Conflict):
            await vectors.upsert(["b"], random_rows(1, 256))

    async def test_what_was_stored_is_there_when_it_is_opened_again(
        self, open_vectors: OpenVectors
    ) -> None:
        async with open_vectors() as vectors:
            await vectors.upsert(["a", "b"], random_rows(2, 8), [PAYLOAD, {}])
            before = await vectors.search(random_rows(1, 8, seed=1)[0])
        async with open_vectors() as vectors:
            assert await vectors.count() == 2
            after = await vectors.search(random_rows(1, 8, seed=1)[0])
            assert [(hit.id, hit.payload) for hit in after] == [
                (hit.id, hit.payload) for hit in before
            ]
            assert [hit.score for hit in after] == pytest.approx([hit.score for hit in before])
            with pytest.raises(Conflict):
                await vectors.upsert(["c"], random_rows(1, 9))

    async def test_many_rows_are_found_as_by_brute_force(self, vectors: Vectors) -> None:
        matrix = random_rows(self.many, 32)
        ids = [f"row {number}" for number in range(self.many)]
        payloads = [{"third": number % 3} for number in range(self.many)]
        await vectors.upsert(ids, matrix, payloads)
        assert await vectors.count() == self.many
        units = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        for query in random_rows(5, 32, seed=1):
            scores = units @ (query / np.linalg.norm(query))
            for where in (None, {"third": 1}):
                left = np.arange(self.many)[slice(1, None, 3) if where else slice(None)]
                best = left[np.argsort(-scores[left])[:20]]
                hits = await vectors.search(query, limit=20, where=where)
                assert [hit.id for hit in hits] == [ids[place] for place in best]
                assert [hit.score for hit in hits] == pytest.approx(scores[best], abs=1e-5)

    async def test_searches_while_others_write(self, vectors: Vectors) -> None:
        await vectors.upsert(["first"], rows([1, 0]))

        async def write(name: str) -> None:
            for number in range(20):
                await vectors.upsert([f"{name} {number}"], rows([0, 1]))

        async def search() -> None:
            for _ in range(20):
                assert (await vectors.search(rows([1, 0])[0]))[0].id == "first"

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for work in (partial(write, "a"), partial(write, "b"), search, search):
                    tasks.start_soon(work)
        assert await vectors.count() == 41
        assert len(await found(vectors)) == 41


class SharedVectorsContract(VectorsContract):
    """What stores promise that several processes may open."""

    async def test_two_processes_write_and_each_sees_all(
        self, vectors: Vectors, open_vectors: OpenVectors, processes: Processes
    ) -> None:
        await vectors.upsert(["both"], rows([1, 0]))
        assert await found(vectors) == {"both"}
        await processes.run(
            partial(_write, open_vectors, "one"), partial(_write, open_vectors, "two")
        )
        ids = {f"{name} {number}" for name in ("one", "two") for number in range(0, 60, 2)}
        assert await found(vectors) == {"both", *ids}
        assert await vectors.count() == 61


async def _write(open_vectors: OpenVectors, name: str) -> None:
    """Write 60 rows and delete every second one, looking at each step."""
    async with open_vectors() as vectors:
        for start in range(0, 60, 6):
            ids = [f"{name} {number}" for number in range(start, start + 6)]
            await vectors.upsert([*ids, "both"], random_rows(7, 2, seed=start))
            assert {*ids, "both"} <= await found(vectors)
            await vectors.delete(ids[1::2])
            assert not {*ids[1::2]} & await found(vectors)
