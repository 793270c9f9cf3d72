"""Programs of the user's own, run by a real worker."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from probe_framework import IDENTITY
from pydantic import ValidationError
from sqlalchemy import select

from mcp_hub.adapters.database.schema import model_versions
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Denied, HubError, InvalidArgument, NotFound
from mcp_hub.services.training.frameworks.base import NOWHERE, Place
from mcp_hub.services.training.frameworks.script import ScriptConfig, ScriptFramework, find_program
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.submission import Submission
from tests.services.training.conftest import Finish, WorkerFactory
from tests.waiting import eventually

Run = Callable[..., Awaitable[str]]

PYTHON = """
import os, sys, json
from pathlib import Path
import polars as pl
import helper
from mcp_hub import run

frame = pl.read_csv(os.environ["MCP_HUB_JOB_DATASET_FILE"])
run.metric("mean", frame[os.environ["MCP_HUB_JOB_TARGET"]].mean(), step=helper.STEP)
told = {k: v for k, v in os.environ.items() if k.startswith("MCP_HUB_")}
run.param("told", told)
run.param("args", sys.argv[1:])
run.param("own", os.environ["OWN"])
Path("notes.txt").write_text("kept")
run.artifact("notes.txt")
Path("model.onnx").write_bytes(bytes.fromhex(sys.argv[1]))
run.model("model.onnx")
"""

SHELL = """#!/bin/sh
report() { printf '%s\\n' "$1" >> "$MCP_HUB_EVENTS"; }
report '{"type": "progress", "done": 1, "total": 2}'
rows=$(wc -l < "$MCP_HUB_JOB_DATASET_FILE")
report "{\\"type\\": \\"metric\\", \\"key\\": \\"lines\\", \\"value\\": $rows}"
echo "trained $MCP_HUB_JOB_NAME with $1"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def place(root: Path) -> Place:
    return Place(roots=(root,), scripts=True)


@pytest.fixture
def write(root: Path) -> Callable[..., Path]:
    def write(name: str, text: str, mode: int = 0o755) -> Path:
        file = root / name
        file.write_text(text)
        file.chmod(mode)
        return file

    return write


Write = Callable[..., Path]


@pytest.fixture
def run(training: TrainingService) -> Run:
    async def run(program: str, target: str | None = None, **config: Any) -> str:
        submission = Submission(
            name="mine", type="other", framework="script", dataset="points", target=target,
            config={"program": program, **config},
        )  # fmt: skip
        return (await training.submit(submission, submitted_by="the tests")).job_id

    return run


async def test_a_python_file_reports_by_the_run(
    worker: WorkerFactory, run: Run, finish: Finish, write: Write, database: SqliteDatabase
) -> None:
    write("train.py", PYTHON, 0o644)
    write("helper.py", "STEP = 4\n", 0o644)
    async with worker():
        job_id = await run("train.py", target="x", args=[IDENTITY.hex()], env={"OWN": "7"})
        job = await finish(job_id)
    assert (job.status, job.model, job.metrics) == ("succeeded", "mine:1", {"mean": 2.0})
    version = await database.read(lambda c: c.execute(select(model_versions)).one())
    assert [field["name"] for field in version.signature["inputs"]] == ["x"]
    assert {artifact["name"] for artifact in version.artifacts} == {"notes.txt", "model.onnx"}
    told = version.params["told"]
    file = Path(told.pop("MCP_HUB_JOB_DATASET_FILE"))
    assert file.parent == Path(told.pop("MCP_HUB_EVENTS")).parent
    assert told == {
        "MCP_HUB_JOB_ID": job_id, "MCP_HUB_ATTEMPT": "1", "MCP_HUB_JOB_NAME": "mine",
        "MCP_HUB_JOB_TYPE": "other", "MCP_HUB_JOB_TARGET": "x",
        "MCP_HUB_JOB_DATASET": "points:1", "MCP_HUB_JOB_DATASET_FORMAT": "csv",
        "MCP_HUB_JOB_DATASET_OPTIONS": told["MCP_HUB_JOB_DATASET_OPTIONS"],
    }  # fmt: skip
    assert (version.params["args"], version.params["own"]) == ([IDENTITY.hex()], "7")


async def test_a_program_in_any_language_reports_by_the_events_file(
    worker: WorkerFactory, run: Run, finish: Finish, write: Write, training: TrainingService
) -> None:
    write("train", SHELL)
    async with worker():
        job_id = await run("train", args=["it's one; argument"])
        job = await finish(job_id)
    assert (job.status, job.metrics, job.progress.total) == ("succeeded", {"lines": 4.0}, 2)
    lines = [line.text for line in (await training.logs(job_id)).lines]
    assert "trained mine with it's one; argument" in lines


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("#!/bin/sh\nexit 3\n", "unavailable", "ended with status 3"),
        ("#!/bin/sh\nkill -9 $$\n", "unavailable", "killed by signal 9"),
        (
            '#!/bin/sh\necho \'{"type": "error", "code": "invalid_argument", "message": "No."}\''
            ' >> "$MCP_HUB_EVENTS"\nexit 1\n',
            "invalid_argument",
            "No.",
        ),
        ("no interpreter is named\n", "invalid_argument", "cannot be run"),
        ("#!/no/such/interpreter\n", "invalid_argument", "cannot be run"),
    ],
    ids=["status", "signal", "own error", "no interpreter", "absent interpreter"],
)
async def test_a_program_that_fails_says_how(
    worker: WorkerFactory, run: Run, finish: Finish, write: Write,
    text: str, code: str, message: str,
) -> None:  # fmt: skip
    write("fails", text)
    async with worker():
        job = await finish(await run("fails"))
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.code == code
    assert message in job.error.message


async def test_a_cancelled_program_has_time_to_end(
    worker: WorkerFactory, run: Run, finish: Finish, write: Write, root: Path,
    training: TrainingService,
) -> None:  # fmt: skip
    write(
        "waits.py",
        f"""
import signal, sys
from pathlib import Path
def end(*_):
    Path({str(root / "ended")!r}).touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
Path({str(root / "waiting")!r}).touch()
while True:
    signal.pause()
""",
    )
    async with worker():
        job_id = await run("waits.py")
        await eventually((root / "waiting").exists)
        await training.cancel(job_id)
        assert (await finish(job_id)).status == "cancelled"
    assert (root / "ended").exists()


async def test_a_program_that_leads_outside_by_the_time_it_is_run_is_not(
    worker: WorkerFactory, run: Run, finish: Finish, write: Write, training: TrainingService
) -> None:
    program = write("train", "#!/bin/sh\n")
    job_id = await run("train")
    program.unlink()
    program.symlink_to("/bin/true")
    async with worker():
        job = await finish(job_id)
    assert job.error is not None
    assert (job.status, job.error.code) == ("failed", "denied")
    with pytest.raises(Denied, match="outside the folders"):
        await training.retry(job_id)


@pytest.mark.parametrize(
    ("program", "kind", "message"),
    [
        ("/bin/true", Denied, "outside the folders"),
        ("../outside.py", Denied, "outside the folders"),
        ("link", Denied, "outside the folders"),
        ("absent.py", NotFound, "There is no file"),
        ("folder", InvalidArgument, "not a regular file"),
        ("pipe", InvalidArgument, "not a regular file"),
        ("data.csv", InvalidArgument, "neither a Python file"),
    ],
)
def test_a_program_that_may_not_or_cannot_be_run_is_refused(
    root: Path, place: Place, program: str, kind: type[HubError], message: str
) -> None:
    (root.parent / "outside.py").touch()
    (root / "link").symlink_to("/bin/true")
    (root / "folder").mkdir()
    (root / "data.csv").touch()
    os.mkfifo(root / "pipe")
    with pytest.raises(kind, match=message):
        ScriptFramework(place).check(ScriptConfig(program=program), "other")


def test_a_link_within_the_roots_is_followed(root: Path, place: Place, write: Write) -> None:
    program = write("train", "#!/bin/sh\n")
    (root / "newest").symlink_to(program)
    assert find_program("newest", place) == program.resolve()


def test_it_is_off_unless_the_hub_lets_it_run(root: Path, write: Write) -> None:
    write("train", "#!/bin/sh\n")
    off = ScriptFramework().at(Place(roots=(root,)))
    assert "training.scripts" in (off.missing() or "")
    assert "training.scripts" in (ScriptFramework(NOWHERE).missing() or "")
    with pytest.raises(Denied) as refused:
        off.check(ScriptConfig(program="train"), "other")
    assert "training.scripts" in (refused.value.hint or "")
    assert off.at(Place(roots=(root,), scripts=True)).missing() is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"env": {"A=B": "1"}}, "cannot name a variable"),
        ({"env": {"MCP_HUB_EVENTS": "/dev/null"}}, "the hub's own"),
        ({"env": {"LD_PRELOAD": "/tmp/x.so"}}, "outside the roots"),
        ({"env": {"PYTHONPATH": "/tmp"}}, "outside the roots"),
        ({"env": {"A": "\0"}}, "zero byte"),
        ({"args": ["\0"]}, "zero byte"),
        ({"args": ["x" * 70_000]}, "over 64000 bytes"),
    ],
)
def test_what_cannot_be_passed_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ScriptConfig.model_validate({"program": "train.py", **config})
