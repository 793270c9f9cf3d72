"""Search by meaning: with the real embedder, over what is recorded, on both databases."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.embedder.onnx import OnnxEmbedder
from mcp_hub.adapters.embedder.port import Embedder
from mcp_hub.adapters.embedder.wordllama import WordllamaEmbedder
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.adapters.vectors.database import DatabaseVectors
from mcp_hub.services.telemetry.templates import similar
from mcp_hub.services.telemetry.templates.patterns import Patterns
from mcp_hub.services.telemetry.templates.similar import Similar
from mcp_hub.services.telemetry.templates.templates import Templates
from mcp_hub.services.telemetry.views import Findings
from mcp_hub.services.telemetry.windows import Window
from tests.services.recorded import HOUR, MINUTE, NOW, Recorded

DAY = Window(NOW - 24 * 60 * MINUTE, NOW)


class Counting(WordllamaEmbedder):
    """The real embedder, and which texts it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        return await super().embed(texts)


class Given(Recorded):
    def similar(self, embedder: Embedder | None = None) -> Similar:
        """As another process has it."""
        templates = Templates(self.database)
        return Similar(
            templates,
            Patterns(self.database, templates),
            embedder or WordllamaEmbedder(),
            DatabaseVectors(self.database, "telemetry"),
        )


@pytest.fixture
async def given(store: Database) -> Given:
    given = Given(store)
    await given.logs(
        30,
        "Out of memory: Killed process 8812 (java)",
        "card declined for order 77: insufficient_funds",
        "certificate for shop.example.com expires in 6 days",
        service="node",
    )
    await given.logs(90, "user alice logged in", "user bob logged in")
    metric = {"name": "cart.abandoned_total", "time": NOW - MINUTE, "value": 3, "unit": "1"}
    await given.add(metric, metric, kind="metric")
    return given


def templates_of(found: Findings) -> list[str]:
    return [row[found.columns.index("template")] for row in found.rows]


async def test_other_words_for_the_same_find_it(given: Given) -> None:
    found = await given.similar().find("a program was ended as RAM was exhausted", DAY)
    assert templates_of(found)[0].startswith("Out of memory")
    row = dict(zip(found.columns, found.rows[0], strict=True))
    assert row["count"] == 1
    assert row["example"] == "Out of memory: Killed process 8812 (java)"
    assert 0 < row["score"] < 1
    assert found.note is None


async def test_a_word_that_is_there_finds_it(given: Given) -> None:
    assert "insufficient_funds" in templates_of(await given.similar().find("funds", DAY))[0]


async def test_names_of_metrics_are_found_and_counted(given: Given) -> None:
    found = await given.similar().find("abandoned carts", DAY, kind="metric")
    row = dict(zip(found.columns, found.rows[0], strict=True))
    assert (row["name"], row["count"]) == ("cart.abandoned_total", 2)


async def test_the_hubs_own_are_found_where_nothing_else_can_be_meant(given: Given) -> None:
    await given.logs(10, "user carol was given a token", service="mcp-hub")
    assert not any("token" in one for one in templates_of(await given.similar().find("user", DAY)))
    assert "token" in templates_of(await given.similar().find("user of mcp-hub", DAY))[0]


async def test_what_did_not_come_may_be_left_out(given: Given) -> None:
    everything = templates_of(await given.similar().find("user login", HOUR))
    assert everything[0] == "user <*> logged in"
    seen = templates_of(await given.similar().find("user login", HOUR, only_seen=True))
    assert "user <*> logged in" not in seen
    assert seen


async def test_what_is_embedded_once_is_kept_for_every_process(given: Given) -> None:
    await given.similar().find("memory", DAY)
    again = Counting()
    await given.similar(again).find("memory", DAY)
    assert again.texts == ["memory"]
    await given.logs(1, "a statement never seen before")
    await given.similar(again).find("memory", DAY)
    assert len(again.texts) == 3


async def test_what_there_was_no_time_for_is_found_by_its_words_and_embedded_later(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar, "EMBEDDING_S", -1)
    found = await given.similar().find("certificate expires", DAY)
    assert templates_of(found)[0].startswith("certificate")
    assert "found by their words alone" in (found.note or "")
    monkeypatch.undo()
    assert (await given.similar().find("certificate expires", DAY)).note is None


async def test_templates_that_are_no_more_lose_their_vectors(
    given: Given,
) -> None:
    vectors = DatabaseVectors(given.database, "telemetry")
    (row,) = await WordllamaEmbedder().embed(["memory"])
    await vectors.upsert(["gone", "young"], np.stack([row, row]), [{"at": 0}, {"at": 2**60}])
    found = await given.similar().find("memory", DAY)
    assert len(found.rows) < 10
    assert await vectors.present(["gone", "young"]) == {"young"}


async def test_without_its_model_words_still_answer(given: Given, tmp_path: Path) -> None:
    missing = OnnxEmbedder(tmp_path / "none")
    found = await given.similar(missing).find("certificate", DAY)
    assert templates_of(found)[0].startswith("certificate")
    assert str(tmp_path) in (found.note or "")


async def test_a_question_must_say_something(given: Given) -> None:
    for wrong in (" ", "x" * 3_000):
        with pytest.raises(InvalidArgument):
            await given.similar().find(wrong, DAY)
    with pytest.raises(InvalidArgument):
        await given.similar().find("x", DAY, kind="trace")


async def test_nothing_fits_words_of_no_language(given: Given) -> None:
    found = await given.similar().find("\u200b", DAY)
    assert isinstance(found.rows, list)
