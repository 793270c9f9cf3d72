"""The right tool among hundreds, by its words and by what it means."""

from functools import partial
from typing import Any

import pytest

from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.embedder.wordllama import WordllamaEmbedder
from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.containers import store
from mcp_hub.services.containers.catalog import digests
from mcp_hub.services.containers.finding import SCHEMAS, Finding
from mcp_hub.services.containers.policy import parse_spec
from mcp_hub.services.containers.store import NewRevision

TOOLS = {
    "github": {
        "create_issue": "Open a new issue in a repository.",
        "list_pull_requests": "List the pull requests of a repository.",
        "merge_pull_request": "Merge a pull request into its base branch.",
    },
    "weather": {
        "forecast": "The temperature and precipitation of the coming days in a city.",
        "alerts": "Severe storms and floods that are warned of now.",
    },
    "files": {
        "read_file": "Read the contents of a file.",
        "search_files": "Find files whose names match a pattern.",
        "move_file": "Rename a file, or put it into another folder.",
    },
    "mail": {"send_message": "Send an e-mail to one or more people.", "list_inbox": "New e-mails."},
}


@pytest.fixture
async def finding(database: SqliteDatabase) -> Finding:
    noise = {
        f"srv-{n}": {f"op_{n}_{m}": f"Operation {m} of unit {n}." for m in range(30)}
        for n in range(10)
    }
    for name, described in (TOOLS | noise).items():
        tools: list[dict[str, Any]] = [
            {"name": tool, "description": text, "inputSchema": {"type": "object"}}
            for tool, text in sorted(described.items())
        ]
        spec = parse_spec({"name": name, "image": "x"})
        catalog = {"tools": tools}
        new = NewRevision(spec, "sha256:1", [], "test", catalog, digests(catalog))
        await database.write(partial(store.add_revision, new=new))
    return Finding(database, WordllamaEmbedder())


@pytest.mark.parametrize(
    ("query", "tool"),
    [
        ("report a bug on the project", "create_issue"),
        ("will it rain tomorrow", "forecast"),
        ("rename a document", "move_file"),
        ("write to a colleague", "send_message"),
        ("merge_pull_request", "merge_pull_request"),
    ],
)
async def test_the_right_one_is_among_the_first(finding: Finding, query: str, tool: str) -> None:
    found = await finding.find(query=query, limit=5)
    assert tool in [item.tool for item in found.items]
    assert [item.input_schema is not None for item in found.items] == [
        at < SCHEMAS for at in range(len(found.items))
    ]
    scores = [item.score or 0 for item in found.items]
    assert scores == sorted(scores, reverse=True)


async def test_all_are_listed_in_pages_once(finding: Finding) -> None:
    seen: list[tuple[str, str]] = []
    cursor = None
    while True:
        page = await finding.find(limit=100, cursor=cursor)
        seen += [(item.container, item.tool) for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 310
    assert seen == sorted(seen)


async def test_wrong_questions_are_refused(finding: Finding) -> None:
    for query in ("", "  ", "x" * 3000):
        with pytest.raises(InvalidArgument, match="query has"):
            await finding.find(query=query)
    with pytest.raises(InvalidArgument, match="one page"):
        await finding.find(query="x", cursor="y")
    with pytest.raises(NotFound):
        await finding.find("nobody", "x")
