"""That the benchmarks run and report; how fast is for `make bench` to say."""

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
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


def test_aggregates_are_asked_beside_plain_sql() -> None:
    result = json.loads(run("queries.py", "--records", "6000", "--calls", "2", "--json"))
    assert result["sealed"] >= 22
    assert len(result["questions"]) == 12
    for question in result["questions"].values():
        assert question["ratio"] > 0
        assert question["error"] <= 0.01


def test_planted_faults_are_counted() -> None:
    told = run("faults.py", "--seeds", "1", "--first-seed", "1001")
    assert "1 seeds: recall 1.000" in told
    assert "cause in the first three" in told


def test_ingest_is_timed_beside_bare_insertion() -> None:
    options = ["--rounds", "1", "--records", "2000", "--seconds", "0.5", "--per-s", "50"]
    for name, result in json.loads(run("ingest.py", *options, "--json")).items():
        assert name in {"sqlite", "postgresql"}
        assert result["ratio"] > 0
        assert result["single"]["p99_ms"] >= result["single"]["p50_ms"] > 0
        assert result["peak_mb"] > 0


def test_calls_in_containers_are_timed_beside_a_bare_server(
    python_image: str, engine_url: str
) -> None:
    options = ["--engine", engine_url, "--calls", "5", "--warm-up", "1", "--rounds", "1"]
    result = json.loads(run("containers.py", *options, "--json"))
    clients = result["warm"]["clients"]
    assert list(clients) == ["bare", "proxy", "relay", "hub"]
    assert all(found["p99_ms"] >= found["p50_ms"] > 0 for found in clients.values())
    assert result["warm"]["ratio"] == clients["hub"]["ratio"] > clients["bare"]["ratio"] == 1
    assert result["first"]["cold"] > result["first"]["pool"] > 0
    assert result["first"]["docker run"] > result["first"]["bare"] > 0


@pytest.mark.parametrize(
    "servers",
    [
        pytest.param((), id="SQLite"),
        pytest.param(("--servers",), id="PostgreSQL and Redis", marks=pytest.mark.soak),
    ],
)
def test_a_long_queue_keeps_its_order_under_load(servers: tuple[str, ...]) -> None:
    result = json.loads(run("jobs.py", "--jobs", "40", *servers, "--json"))
    assert result["states"] == {"succeeded": 40}
    assert (result["started"], result["out_of_order"]) == (40, 0)
    assert result["training_submit"]["calls"] == 40
    for tool in ("training_status", "training_list"):
        assert result[tool]["p95_ms"] >= result[tool]["p50_ms"] > 0
    assert result["worker_mb"][-1] < result["worker_mb"][0] + 50


def test_a_job_that_starts_before_another_that_is_ahead_is_counted() -> None:
    """What tells that the order held would tell if it did not."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = spec_from_file_location("jobs_benchmark", BENCHMARKS / "jobs.py")
        assert spec is not None
        assert spec.loader is not None
        benchmark = module_from_spec(spec)
        spec.loader.exec_module(benchmark)
    finally:
        sys.path.remove(str(BENCHMARKS))
    low, high = benchmark.Start(0, 30, 0), benchmark.Start(1, 40, 5)
    aged = benchmark.Start(-400, 50, 0)
    assert benchmark.out_of_order([low._replace(started=50), high]) == 0
    assert benchmark.out_of_order([low, high]) == 1
    assert benchmark.out_of_order([high, aged]) == 1
    assert benchmark.out_of_order([high._replace(started=float("inf")), low]) == 1


def test_for_a_person() -> None:
    assert "ratio" in run("calls.py", "--calls", "5", "--warm-up", "1")


def test_search_by_meaning_finds_more_than_full_text() -> None:
    [result] = json.loads(run("retrieval.py", "--embedder", "wordllama", "--json"))
    assert (result["templates"], result["questions"]) == (200, 74)
    assert result["hit_at_5"]["similar"] > 1.5 * result["hit_at_5"]["full text"]
    assert "hit@5" in run("retrieval.py", "--embedder", "wordllama", "--part", "tuning")
