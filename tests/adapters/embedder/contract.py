"""What every embedder promises. An implementation's test class gives `open_embedder`."""

from collections.abc import Callable

import anyio
import numpy as np
import pytest

from mcp_hub.adapters.embedder.port import Embedder
from mcp_hub.adapters.errors import InvalidArgument

TEXTS = [
    "The cat sat on the mat.",
    "A kitten rests upon a rug.",
    "Quarterly revenue exceeded expectations.",
    "",
    " \n\t",
    "ü🚀 日本語 العربية \u0000 \u200d",
    "word " * 60,
    "CUDA out of memory",
]


class EmbedderContract:
    @pytest.fixture(scope="class")
    @classmethod
    def open_embedder(cls) -> Callable[[], Embedder]:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def embedder(cls, open_embedder: Callable[[], Embedder]) -> Embedder:
        """One for all tests of a class, which loads its model once."""
        return open_embedder()

    async def test_a_row_of_length_one_for_each_text(self, embedder: Embedder) -> None:
        rows = await embedder.embed(TEXTS)
        assert rows.dtype == np.float32
        assert rows.shape == (len(TEXTS), await embedder.dimensions())
        lengths = np.linalg.norm(rows, axis=1)
        has_tokens = lengths > 0
        assert has_tokens[[0, 1, 2, 5, 6, 7]].all()
        assert lengths[has_tokens] == pytest.approx(1, abs=1e-5)

    async def test_no_texts_give_no_rows(self, embedder: Embedder) -> None:
        rows = await embedder.embed([])
        assert rows.shape == (0, await embedder.dimensions())
        assert rows.dtype == np.float32

    async def test_the_same_text_gives_the_same_row_in_any_company(
        self, embedder: Embedder, open_embedder: Callable[[], Embedder]
    ) -> None:
        together = await embedder.embed(TEXTS * 5)
        for place, text in enumerate(TEXTS):
            alone = (await embedder.embed([text]))[0]
            for row in together[place :: len(TEXTS)]:
                assert row == pytest.approx(alone, abs=1e-5)
        again = open_embedder()
        assert await again.embed(TEXTS * 5) == pytest.approx(together, abs=1e-6)
        assert again.name == embedder.name
        await again.close()

    async def test_texts_that_mean_the_same_are_near(self, embedder: Embedder) -> None:
        cat, kitten, revenue = await embedder.embed(TEXTS[:3])
        assert cat @ kitten > cat @ revenue + 0.1

    async def test_a_very_long_text(self, embedder: Embedder) -> None:
        text = "A long story about a cat. " * 40_000
        rows = await embedder.embed([text, "A cat.", "A tax return."])
        assert rows[0] @ rows[1] > rows[0] @ rows[2]

    async def test_refuses_what_is_no_unicode(self, embedder: Embedder) -> None:
        with pytest.raises(InvalidArgument, match=r"Text 2 .* character 4"):
            await embedder.embed(["fine", "not \ud800"])

    async def test_the_loop_turns_while_a_thousand_texts_are_embedded(
        self, embedder: Embedder
    ) -> None:
        texts = [f"event {number}: disk {number % 7} is slow" for number in range(1000)]
        longest_s = 0.0

        async def turn() -> None:
            nonlocal longest_s
            while True:
                before = anyio.current_time()
                await anyio.lowlevel.checkpoint()
                await anyio.sleep(0.005)
                longest_s = max(longest_s, anyio.current_time() - before)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn)
            rows = await embedder.embed(texts)
            tasks.cancel_scope.cancel()
        assert len(rows) == 1000
        assert longest_s < 1

    async def test_callers_take_turns(self, embedder: Embedder) -> None:
        rows: dict[int, np.ndarray] = {}

        async def embed(number: int) -> None:
            rows[number] = await embedder.embed([f"text {number}"] * 40)

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(embed, number)
        for number in range(5):
            alone = (await embedder.embed([f"text {number}"]))[0]
            assert rows[number] == pytest.approx(np.tile(alone, (40, 1)), abs=1e-5)

    async def test_is_loaded_again_after_it_was_closed(
        self, open_embedder: Callable[[], Embedder]
    ) -> None:
        embedder = open_embedder()
        before = await embedder.embed(["a"])
        await embedder.close()
        assert await embedder.embed(["a"]) == pytest.approx(before)
        await embedder.close()
