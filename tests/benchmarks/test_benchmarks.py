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


def test_for_a_person() -> None:
    assert "ratio" in run("calls.py", "--calls", "5", "--warm-up", "1")
