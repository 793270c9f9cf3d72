"""That the benchmarks run and report; how fast is for `make bench` to say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / arguments[0]), *arguments[1:]],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments", [("startup.py", "--pairs", "1"), ("calls.py", "--calls", "5", "--warm-up", "1")]
)
def test_a_benchmark_reports_its_ratio(arguments: tuple[str, ...]) -> None:
    result = json.loads(run(*arguments, "--json"))
    assert result["ratio"] > 0
    assert result["bare_ms"] > 0
    assert result["hub_ms"] > 0


def test_every_queue_of_the_contest_is_timed() -> None:
    options = ["--messages", "100", "--rounds", "1"]
    times = json.loads(run("queue.py", *options, "--json"))
    assert {"database queue, SQLite", "BullQueue (ours on BullMQ)", "bullmq, bare", "saq"} <= set(
        times
    )
    assert all(seconds > 0 for both in times.values() for seconds in both.values())
    told = run("queue.py", *options)
    assert "× bare bullmq" in told
    assert "synchronous=NORMAL" in told


def test_ingest_is_timed_beside_bare_insertion() -> None:
    options = ["--rounds", "1", "--records", "2000", "--seconds", "0.5", "--per-s", "50"]
    for name, result in json.loads(run("ingest.py", *options, "--json")).items():
        assert name in {"sqlite", "postgresql"}
        assert result["ratio"] > 0
        assert result["single"]["p99_ms"] >= result["single"]["p50_ms"] > 0
        assert result["peak_mb"] > 0


def test_for_a_person() -> None:
    assert "ratio" in run("calls.py", "--calls", "5", "--warm-up", "1")
