import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest
from mcp.types import CallToolResult, TextContent

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.services.data.service import DataService
from mcp_hub.services.hub import Hub
from mcp_hub.tools.data import DataTools

Call = Callable[..., Awaitable[tuple[dict[str, Any], bool]]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    root.mkdir()
    return root


@pytest.fixture
def tools(
    database: SqliteDatabase, blobs: FileBlobStore, bus: DatabaseBus, root: Path
) -> DataTools:
    data = DataService(database, blobs, bus, roots=[root], max_bytes=20_000_000)
    hub: Any = SimpleNamespace(data=data, bus=bus)

    async def provide() -> Hub:
        return hub

    return DataTools(provide)


@pytest.fixture
def call(tools: DataTools) -> Call:
    bound = {tool.name: tool for tool in tools.tools()}

    async def call(tool: str, /, **arguments: Any) -> tuple[dict[str, Any], bool]:
        result = cast(CallToolResult, await bound[tool].call(arguments, cast(Any, None)))
        content = result.content[0]
        assert isinstance(content, TextContent)
        assert len(content.text) <= 25_000
        return json.loads(content.text), bool(result.is_error)

    return call


async def succeed(call: Call, tool: str, /, **arguments: Any) -> dict[str, Any]:
    answer, failed = await call(tool, **arguments)
    assert not failed, answer
    return answer


async def fail(call: Call, tool: str, /, **arguments: Any) -> dict[str, Any]:
    answer, failed = await call(tool, **arguments)
    assert failed
    assert set(answer) == {"code", "message", "hint"}
    return answer


async def test_what_an_agent_does_with_data(call: Call) -> None:
    rows = "\n".join(f"{i % 7 + 0.5},{'ab'[i % 2]},{'yes' if i % 3 else 'no'}" for i in range(60))
    registered = await succeed(call, "dataset_register", name="d", content=f"x,k,y\n{rows}\n")
    assert registered["dataset"] == "d:1"
    assert registered["columns"][1] == {"name": "k", "dtype": "String", "kind": "category"}
    listed = await succeed(call, "dataset_list")
    assert [item["name"] for item in listed["items"]] == ["d"]
    profile = await succeed(call, "dataset_profile", dataset="d", target="y")
    assert profile["target"]["distribution"] == {"yes": 40, "no": 20}
    preview = await succeed(call, "dataset_preview", dataset="d:1", limit=1)
    assert preview["rows"] == [[0.5, "a", "no"]]
    rules = [{"column": "x", "min": 0, "max": 5}, {"min_rows": 10}]
    validation = await succeed(call, "dataset_validate", dataset="d", rules=rules)
    assert validation["results"][0]["rule"] == "max"
    assert validation["results"][0]["failing_rows"][0] == 5


async def test_options_and_a_file(call: Call, root: Path) -> None:
    (root / "t.csv").write_bytes("größe;n\nklein;1,5\n".encode("latin-1"))
    options = {"encoding": "latin-1", "decimal_comma": True}
    answer = await succeed(call, "dataset_register", name="t", source="t.csv", options=options)
    assert answer["options"] == {
        "separator": ";",
        "encoding": "iso8859-1",
        "decimal_comma": True,
    }
    preview = await succeed(call, "dataset_preview", dataset="t")
    assert (preview["columns"], preview["rows"]) == (["größe", "n"], [["klein", 1.5]])


async def test_wide_data_stay_within_what_an_agent_reads(call: Call, root: Path) -> None:
    frame = pl.DataFrame(
        {f"a column with a long name {i:4}" * 5: ["x" * 300] * 200 for i in range(400)}
    )
    frame.write_parquet(root / "wide.parquet")
    answer = await succeed(call, "dataset_register", name="w", source="wide.parquet")
    assert len(answer["columns"]) == 60
    assert answer["omitted_columns"] == 340
    assert (await succeed(call, "dataset_profile", dataset="w"))["omitted_columns"] >= 340
    preview = await succeed(call, "dataset_preview", dataset="w", limit=100)
    assert preview["truncated"]
    rules = [
        {"drift_from": "w"},
        *({"column": name, "unique": True} for name in frame.columns[:60]),
    ]
    assert not (await succeed(call, "dataset_validate", dataset="w", rules=rules))["passed"]


async def test_errors_name_what_would_be_right(call: Call, root: Path) -> None:
    (root / "data.csv").write_text("a,b\n1,2\n")
    await succeed(call, "dataset_register", name="data", source="data.csv")
    for tool, arguments, code, hint in (
        ("dataset_register", {"name": "d", "source": "dat.csv"}, "not_found", "'data.csv'"),
        ("dataset_register", {"name": "d", "source": "/etc/passwd"}, "denied", str(root)),
        ("dataset_register", {"name": "d"}, "invalid_argument", "source"),
        ("dataset_register", {"name": "a b", "content": "a\n1"}, "invalid_argument", "Letters"),
        ("dataset_register", {"name": "d", "content": "a\n1", "format": "excel"},
         "invalid_argument", "csv"),
        ("dataset_register", {"name": "d", "content": "a\n1", "options": {"delimiter": ";"}},
         "invalid_argument", "separator"),
        ("dataset_register", {"name": "d", "content": "[1]", "options": {"separator": ";"},
         "format": "json"}, "invalid_argument", "takes no options"),
        ("dataset_preview", {"dataset": "dta"}, "not_found", "'data'"),
        ("dataset_preview", {"dataset": "data", "limit": 500}, "invalid_argument", ""),
        ("dataset_profile", {"dataset": "data", "target": "c"}, "not_found", "a, b"),
        ("dataset_validate", {"dataset": "data", "rules": []}, "invalid_argument", "min_rows"),
        ("dataset_validate", {"dataset": "data", "rules": [{"column": "a", "minimum": 0}]},
         "invalid_argument", "'min'"),
        ("dataset_validate", {"dataset": "data", "rules": [{"column": "c", "min": 0}]},
         "not_found", "a, b"),
    ):  # fmt: skip
        answer = await fail(call, tool, **arguments)
        assert answer["code"] == code, (tool, arguments)
        assert hint in str(answer["hint"]), (tool, arguments, answer)


async def test_the_declarations(tools: DataTools) -> None:
    definitions = {tool.name: tool.definition for tool in tools.tools()}
    assert list(definitions) == [
        "dataset_register",
        "dataset_stop",
        "dataset_delete",
        "dataset_list",
        "dataset_profile",
        "dataset_preview",
        "dataset_validate",
    ]
    for name, definition in definitions.items():
        assert definition.title
        assert 0 < len((definition.description or "").encode()) <= 1024
        annotations = definition.annotations
        assert annotations is not None
        changes = ("dataset_register", "dataset_stop", "dataset_delete")
        assert annotations.read_only_hint is (name not in changes)
        assert annotations.idempotent_hint is True
        assert annotations.destructive_hint is (name == "dataset_delete")
        assert annotations.open_world_hint is False
        for parameter in definition.input_schema["properties"].values():
            assert parameter["description"]
    rules = definitions["dataset_validate"].input_schema
    assert "pattern" in rules["$defs"]["Rule"]["properties"]
    assert (
        "separator"
        in definitions["dataset_register"].input_schema["$defs"]["CsvOptions"]["properties"]
    )


def test_the_tools_import_nothing_heavy() -> None:
    program = (
        "import sys; import mcp_hub.tools.data, mcp_hub.services.data.views; "
        "heavy = {'polars', 'numpy', 'sqlalchemy', 'sklearn', 'onnxruntime'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


async def test_a_data_set_grows_until_it_is_stopped(call: Call, root: Path) -> None:
    (root / "log.csv").write_text("a,b\n1,2\n3,4\n")
    grown = {"name": "log", "source": "log.csv", "mode": "stream"}
    view = await succeed(call, "dataset_register", **grown, stream={"interval_s": 5})
    assert (view["dataset"], view["rows"]) == ("log:1", 2)
    assert (view["stream"]["status"], view["stream"]["interval_s"]) == ("growing", 5)
    (listed,) = (await succeed(call, "dataset_list"))["items"]
    assert listed["stream"]["status"] == "growing"
    stopped = await succeed(call, "dataset_stop", name="log")
    assert (stopped["stream"]["status"], stopped["version"], stopped["columns"]) == (
        "stopped",
        1,
        2,
    )
    assert (await succeed(call, "dataset_register", **grown))["stream"]["status"] == "growing"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"content": "a\n1\n", "mode": "stream"}, "content does not grow"),
        ({"content": "a\n1\n", "stream": {}}, 'mode="stream"'),
    ],
)
async def test_what_does_not_grow_is_said(call: Call, arguments: dict[str, Any], hint: str) -> None:
    answer, failed = await call("dataset_register", name="x", **arguments)
    assert failed
    assert hint in answer["hint"]
