"""`mcp-hub up` on real servers: alone, again, many at once, and where it may not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from mcp_hub import migrations
from mcp_hub.adapters.errors import Denied, HubError, Unavailable
from mcp_hub.server.provisioning import Step, provision
from mcp_hub.server.settings import Settings
from tests.processes import hub_environment
from tests.servers import SECRET_KEY, Server

REPLICAS = 5


async def steps_of(settings: Settings) -> list[Step]:
    return [step async for step in provision(settings)]


async def failure_of(settings: Settings) -> HubError:
    with pytest.raises(HubError) as caught:
        await steps_of(settings)
    assert SECRET_KEY not in f"{caught.value.message} {caught.value.hint}"
    return caught.value


def on_servers(folder: Path, postgres: Server, s3: Server) -> dict[str, Any]:
    name = f"up-{uuid4().hex[:12]}"
    return {
        "data_dir": folder / "data",
        "roots": [folder],
        "database_url": postgres.url.rpartition("/")[0] + f"/{name}",
        "blobs_url": s3.url.replace("/hub?", f"/{name}?"),
    }


async def test_what_is_missing_is_made_once(
    tmp_path: Path, postgres_server: Server, s3_server: Server
) -> None:
    settings = Settings(**on_servers(tmp_path, postgres_server, s3_server))
    first = await steps_of(settings)
    assert {step.what: step.done for step in first} == {
        "data folder": "made", "database": "made", "schema": "made", "blobs": "made",
        "queue": "found",
    }  # fmt: skip
    assert all(step.done == "found" for step in await steps_of(settings))
    assert not any(SECRET_KEY in step.model_dump_json() for step in first)


async def test_a_gridfs_bucket_is_made_once(tmp_path: Path, mongodb_server: Server) -> None:
    url = mongodb_server.url.replace("/hub?", f"/up-{uuid4().hex[:12]}?")
    settings = Settings(data_dir=tmp_path / "data", roots=[tmp_path], blobs_url=url)
    for done in ("made", "found"):
        (blobs,) = [step for step in await steps_of(settings) if step.what == "blobs"]
        assert blobs.done == done
        assert blobs.detail.startswith("MongoDB 8.")
        assert SECRET_KEY not in blobs.model_dump_json()


async def test_a_wrong_password_of_gridfs_is_said_without_it(
    tmp_path: Path, mongodb_server: Server
) -> None:
    url = mongodb_server.url.replace(SECRET_KEY, "wrong-secret")
    error = await failure_of(Settings(data_dir=tmp_path, roots=[tmp_path], blobs_url=url))
    assert isinstance(error, Unavailable)
    assert "authentication failed" in error.message
    assert "wrong-secret" not in error.message
    assert "blobs_url" in (error.hint or "")


async def test_a_laptop_needs_no_server(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", roots=[tmp_path])
    steps = await steps_of(settings)
    assert [step.done for step in steps] == ["made"] * 4 + ["found"]
    assert all(step.done == "found" for step in await steps_of(settings))


def test_replicas_may_all_do_it_at_once(
    tmp_path: Path, postgres_server: Server, s3_server: Server
) -> None:
    values = on_servers(tmp_path, postgres_server, s3_server)
    secret = tmp_path / "database_url"
    secret.write_text(f"{values['database_url']}\n")
    environment = hub_environment(
        tmp_path,
        MCP_HUB_DATABASE_URL_FILE=str(secret),
        MCP_HUB_BLOBS_URL=values["blobs_url"],
    )
    replicas = [
        subprocess.Popen(
            [sys.executable, "-m", "mcp_hub", "up", "--json"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(REPLICAS)
    ]  # fmt: skip
    said = [replica.communicate() for replica in replicas]
    assert [replica.returncode for replica in replicas] == [0] * REPLICAS, said
    reports = [json.loads(out)["steps"] for out, _ in said]
    for what in ("database", "schema"):
        done = [step["done"] for steps in reports for step in steps if step["what"] == what]
        assert sorted(done) == ["found"] * (REPLICAS - 1) + ["made"]
    names = {s["name"] for steps in reports for s in steps if s["what"] == "schema"}
    assert names == {migrations.HEAD}


async def test_a_wrong_password_is_said_without_it(tmp_path: Path, postgres_server: Server) -> None:
    url = postgres_server.url.replace(SECRET_KEY, "wrong-password")
    error = await failure_of(Settings(data_dir=tmp_path, roots=[tmp_path], database_url=url))
    assert isinstance(error, Unavailable)
    assert "password authentication failed" in error.message
    assert "wrong-password" not in error.message
    assert "Check the user and the password in database_url" in (error.hint or "")


async def test_who_may_not_make_the_database_is_told_the_command(
    tmp_path: Path, postgres_server: Server
) -> None:
    role = f"guest_{uuid4().hex[:8]}"
    connection = await asyncpg.connect(postgres_server.url)
    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET_KEY}'")
    await connection.close()
    url = postgres_server.url.replace("//hub:", f"//{role}:").rpartition("/")[0] + "/team"
    error = await failure_of(Settings(data_dir=tmp_path, roots=[tmp_path], database_url=url))
    assert isinstance(error, Denied)
    assert f'CREATE DATABASE "team" OWNER "{role}";' in (error.hint or "")


async def test_a_wrong_secret_of_the_bucket_is_said_without_it(
    tmp_path: Path, s3_server: Server
) -> None:
    url = s3_server.url.replace(SECRET_KEY, "wrong-secret").replace("/hub?", "/up-wrong?")
    error = await failure_of(Settings(data_dir=tmp_path, roots=[tmp_path], blobs_url=url))
    assert isinstance(error, Unavailable)
    assert "wrong-secret" not in error.message
    assert "Check the key and the secret" in (error.hint or "")


async def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    url = "postgresql://hub:secret@127.0.0.1:1/hub"
    error = await failure_of(Settings(data_dir=tmp_path, roots=[tmp_path], database_url=url))
    assert isinstance(error, Unavailable)
    assert "postgresql://hub:***@127.0.0.1:1/hub" in error.message
