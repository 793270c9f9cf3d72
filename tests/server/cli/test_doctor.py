import json
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import workers
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.server import doctor
from tests.servers import SECRET_KEY, Server

from .conftest import Shell


def checks(out: str) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(out)["checks"]}


def test_a_sound_hub(mcp_hub: Shell, folder: Path) -> None:
    done = mcp_hub("doctor", "--json")
    assert done.status == 0
    report = json.loads(done.out)
    assert report["status"] == "ok"
    assert report["settings"]["data_dir"] == {
        "value": str(folder / "data"),
        "origin": "MCP_HUB_DATA_DIR",
    }
    assert report["settings"]["port"] == {"value": 3456, "origin": "default"}
    found = checks(done.out)
    assert {check["status"] for check in found.values()} == {"ok"}
    assert " ms)" in found["database"]["detail"]
    assert {"python", "packages", "disk", "blobs", "framework sklearn", "workers"} <= set(found)


def test_for_a_person(mcp_hub: Shell, folder: Path) -> None:
    (folder / "mcp-hub.json").write_text(
        '{"mlPipeline": {"modelRegistry": {"autoVersion": false}}}'
    )
    done = mcp_hub("doctor", "--config", "mcp-hub.json")
    assert done.status == 0
    assert re.search(rf"registry.auto_version +no  \({folder / 'mcp-hub.json'}\)", done.out)
    assert "nothing in this release acts on it: registry.auto_version" in done.out
    assert done.out.endswith("Everything works.\n")
    assert done.err == ""


def test_blobs_and_sources_in_mongodb(
    mcp_hub: Shell, folder: Path, mongodb_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = folder / "crm_url"
    url.write_text(mongodb_server.url)
    monkeypatch.setenv("MCP_HUB_BLOBS_URL_FILE", str(url))
    monkeypatch.setenv("MCP_HUB_DATA__SOURCES__CRM__URL_FILE", str(url))
    monkeypatch.setenv("MCP_HUB_DATA__SOURCES__OLD__URL", f"mongodb://u:{SECRET_KEY}@127.0.0.1/")
    done = mcp_hub("doctor", "--json")
    assert done.status == 0
    assert SECRET_KEY not in done.out + done.err
    found = checks(done.out)
    assert found["blobs"]["status"] == found["source crm"]["status"] == "ok"
    assert "MongoDB 8." in found["blobs"]["detail"]
    assert "hub:***@" in found["source crm"]["detail"]
    # What the hub can do its work without is no fault of the hub's.
    assert found["source old"]["status"] == "warning"
    assert "names no database" in found["source old"]["detail"]
    monkeypatch.setenv("MCP_HUB_DATA__CONNECTORS__MONGODB__ENABLED", "false")
    old = checks(mcp_hub("doctor", "--json").out)["source crm"]
    assert "switches off" in old["detail"]


def test_mongodb_switched_on_without_a_source(mcp_hub: Shell, folder: Path) -> None:
    earlier = {"mlPipeline": {"dataConnectors": {"mongodb": {"enabled": True}}}}
    (folder / "mcp-hub.json").write_text(json.dumps(earlier))
    found = checks(mcp_hub("doctor", "--config", "mcp-hub.json", "--json").out)["settings"]
    assert found["status"] == "warning"
    assert "no source is named" in found["detail"]
    assert "[data.sources.NAME]" in found["hint"]


def test_a_data_folder_that_cannot_be_written(mcp_hub: Shell, folder: Path) -> None:
    (folder / "file").write_text("")
    done = mcp_hub("doctor", "--data-dir", "file/state", "--json")
    assert done.status == 1
    found = checks(done.out)
    assert found["data_dir"]["status"] == found["hub"]["status"] == "broken"
    assert "--data-dir" in found["data_dir"]["hint"]


def test_a_root_that_is_gone(mcp_hub: Shell) -> None:
    done = mcp_hub("doctor", "--root", "gone")
    assert done.status == 1
    assert "gone cannot be read" in done.out
    assert "broken." in done.out


def test_a_damaged_database(mcp_hub: Shell, folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "hub.db").write_bytes(b"not a database, but longer than a header" * 100)
    done = mcp_hub("doctor", "--json")
    assert done.status == 1
    assert checks(done.out)["hub"]["status"] == "broken"


def test_what_is_missing_and_the_command_that_brings_it(
    mcp_hub: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_is_installed", lambda name: name != "polars")
    done = mcp_hub("doctor", "--json")
    assert done.status == 1
    packages = checks(done.out)["packages"]
    assert packages["detail"] == "Not installed: polars."
    assert packages["hint"].endswith("-m pip install polars")


async def test_workers_that_ended_without_saying_so(database: SqliteDatabase) -> None:
    def add(connection: Connection) -> None:
        row = {"host": "elsewhere", "pid": 1, "concurrency": 1, "started_at": 0}
        connection.execute(workers.insert().values(id="w_gone", heartbeat_at=0, **row))
        connection.execute(workers.insert().values(id="w_here", heartbeat_at=now_ms(), **row))

    await database.write(add)
    assert await database.read(lambda c: doctor._count_workers(c, 30_000)) == (1, 2)


def test_a_client_that_starts_what_is_gone(mcp_hub: Shell, folder: Path) -> None:
    (folder / ".mcp.json").write_text('{"mcpServers": {"mcp-hub": {"command": "/gone"}}}')
    done = mcp_hub("doctor", "--json")
    assert done.status == 0
    assert checks(done.out)["Claude Code (project)"]["status"] == "warning"
