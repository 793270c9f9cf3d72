import json
import subprocess
import sys
from pathlib import Path

from tests.processes import hub_environment


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mcp_hub", "telemetry", *arguments],
        env=hub_environment(folder), capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_file_is_imported_and_summed_up(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"name": "a"}\n{"name": "b"}\n')
    done = run(tmp_path, "import", str(file))
    assert (done.returncode, done.stdout) == (
        0,
        "events.jsonl: 2 kept, 0 there already, 0 rejected.\n",
    )
    file.write_text('{"name": "a"}\n{"name": "b"}\n{"name": ""}\n')
    told = run(tmp_path, "import", str(file), "--json")
    assert told.returncode == 1
    report = json.loads(told.stdout)
    assert (report["accepted"] + report["repeated"], report["rejected"]) == (2, 1)
    assert report["problems"] == [{"index": 3, "message": "name is empty"}]


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    done = run(tmp_path, "import", str(tmp_path / "none.jsonl"))
    assert done.returncode == 2
    assert "does not exist" in done.stderr
