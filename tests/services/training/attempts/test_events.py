"""Parsing what a job's process reports."""

import json
import multiprocessing
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded
from mcp_hub.services.training.attempts.events import (
    MAX_KEYS,
    MAX_LINE_BYTES,
    FileTail,
    LineTail,
    Report,
    is_event,
)
from mcp_hub.services.training.run import Run

storable = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
keys = st.text(storable, min_size=1, max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
events = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("metric"), "key": keys, "value": finite, "step": st.integers(0, 100)}
    ),
    st.fixed_dictionaries({"type": st.just("progress"), "done": finite, "total": st.none()}),
    st.fixed_dictionaries({"type": st.just("tag"), "key": keys, "value": st.text(storable)}),
    st.fixed_dictionaries({"type": st.just("log"), "text": st.text()}),
)


@given(st.lists(events, max_size=20), st.data())
def test_however_the_file_is_cut_each_event_is_read_once(
    sent: list[dict[str, object]], data: st.DataObject
) -> None:
    content = "".join(json.dumps(event) + "\n" for event in sent).encode()
    report, tail = Report(), LineTail()
    metrics, logs = [], []
    position = 0
    while position < len(content):
        size = data.draw(st.integers(1, 200))
        batch = report.take(tail.feed(content[position : position + size]))
        metrics += [(metric.key, metric.value, metric.step) for metric in batch.metrics]
        logs += batch.log
        position += size
    assert metrics == [(e["key"], e["value"], e["step"]) for e in sent if e["type"] == "metric"]
    assert logs == [e["text"] for e in sent if e["type"] == "log"]
    assert report.tags == {e["key"]: e["value"] for e in sent if e["type"] == "tag"}


def test_a_param_may_be_json_that_escapes_nul() -> None:
    value = r'{"stop": "\u0000"}'
    report = Report()
    report.take([json.dumps({"type": "param", "key": "a", "value": value}).encode()])
    assert report.fault is None
    assert report.params == {"a": value}


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_the_first_line_of_rubbish_is_the_fault(contents: list[bytes]) -> None:
    tail, report = LineTail(), Report()
    lines = [*tail.feed(b"\n".join(contents)), tail.end()]
    batch = report.take(lines)
    wrong = [n for n, line in enumerate(lines, 1) if line.strip() and not is_event(line)]
    assert len(batch.log) + len(batch.metrics) <= len(lines)
    if wrong:
        assert report.fault is not None
        assert f"Line {wrong[0]} of" in report.fault.error.message
    else:
        assert report.fault is None


GOOD = b'{"type": "metric", "key": "loss", "value": 1.0}'


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"type": "metric", "key": ', "(Invalid JSON: "),
        (b"[1, 2]", "(Input should be an object): [1, 2]"),
        (b'{"key": "a", "value": 1}', "(it names no type)"),
        (b'{"type": "metrics", "key": "a"}', "'metric', 'progress'"),
        (b'{"type": "metric", "key": "a"}', "(metric.value: Field required)"),
        (b'{"type": "metric", "key": "", "value": 1}', "(metric.key: String should have"),
        (b'{"type": "param", "key": "rate", "value": [1, NaN]}', "(param.value: Out of range"),
        (b'{"type": "param", "key": "a", "value": {"a": "\\u0000"}}', "a NUL character"),
        (b'{"type": "tag", "key": "\\u0000", "value": "x"}', "(tag.key: a text has a NUL"),
        (b'{"type": "progress", "done": NaN}', "(progress.done: Input should be a finite number"),
        (b'{"type": "progress", "done": 1, "total": Infinity}', "(progress.total: "),
        (b"x" * 500, "): " + "x" * 80),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"x" * MAX_LINE_BYTES, "over 1,000,000 bytes long"),
    ],
)
def test_a_line_that_is_no_event_is_the_fault(line: bytes, told: str) -> None:
    report = Report()
    batch = report.take([GOOD, b"  ", line, GOOD])
    assert [metric.step for metric in batch.metrics] == [0]
    assert report.take([GOOD]).metrics == []
    assert report.fault is not None
    assert report.fault.cause == "broken_report"
    assert isinstance(report.fault.error, InvalidArgument)
    assert report.fault.error.message.startswith("Line 3 of the events file is no event (")
    assert told in report.fault.error.message
    assert len(report.fault.error.message) < 500
    assert "one whole JSON object" in (report.fault.error.hint or "")


@pytest.mark.parametrize(
    ("value", "step", "told"),
    [
        ("NaN", 7, "Metric loss is nan at step 7; a metric is a finite number."),
        ("-Infinity", 0, "Metric loss is -inf at step 0; a metric is a finite number."),
        ("1e999", None, "Metric loss is inf; a metric is a finite number."),
        # As JavaScript's JSON.stringify writes NaN.
        ("null", 3, "Metric loss is nan at step 3; a metric is a finite number."),
    ],
)
def test_a_metric_that_is_no_finite_number_is_the_fault(
    value: str, step: int | None, told: str
) -> None:
    report = Report()
    step_text = json.dumps(step)
    line = f'{{"type": "metric", "key": "loss", "value": {value}, "step": {step_text}}}'
    batch = report.take([GOOD, line.encode(), b"rubbish"])
    assert len(batch.metrics) == 1
    assert report.metrics == {"loss": 1.0}
    assert report.fault is not None
    assert report.fault.cause == "nan_loss"
    assert (report.fault.error.message, report.fault.error.code) == (told, "invalid_argument")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_python_job_hears_of_it_where_it_reports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    events = tmp_path / "events"
    monkeypatch.setenv("MCP_HUB_EVENTS", str(events))
    with pytest.raises(ValueError, match="metric 'loss' is"):
        Run().metric("loss", value, step=2)
    report = Report()
    report.take(events.read_bytes().splitlines())
    assert report.fault is not None
    assert report.fault.cause == "nan_loss"


def test_steps_are_counted_where_the_job_gives_none() -> None:
    line = b'{"type": "metric", "key": "loss", "value": 1.0}'
    batch = Report().take([line, line, line])
    assert [metric.step for metric in batch.metrics] == [0, 1, 2]


def test_an_endless_line_is_cut() -> None:
    tail = LineTail()
    assert tail.feed(b"x" * (MAX_LINE_BYTES * 2 + 5)) == [b"x" * MAX_LINE_BYTES] * 2
    assert tail.feed(b"\n") == [b"x" * 5]


def test_what_has_no_end_of_line_is_given_at_the_end() -> None:
    tail = LineTail()
    assert tail.feed(b"one\r\n\ntwo") == [b"one", b""]
    assert (tail.end(), tail.end()) == (b"two", b"")


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_no_line_is_longer_than_allowed_whole_or_not(end: bytes) -> None:
    tail = LineTail()
    content = bytes(range(48, 58)) * (MAX_LINE_BYTES // 5) + b"rest"
    lines = tail.feed(content + end)
    rest = tail.end()
    assert b"".join([*lines, rest]) == content
    assert [len(line) for line in [*lines, rest] if line] == [MAX_LINE_BYTES, MAX_LINE_BYTES, 4]


def test_threads_and_forks_report_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("MCP_HUB_EVENTS", str(path))
    run, text = Run(), "x" * 20_000

    def report() -> None:
        for _ in range(25):
            run.log(text)

    fork = multiprocessing.get_context("fork")
    reporters = [fork.Process(target=report) for _ in range(2)]
    reporters += [threading.Thread(target=report) for _ in range(2)]
    for reporter in reporters:
        reporter.start()
    for reporter in reporters:
        reporter.join()
    lines = path.read_text().splitlines()
    assert len(lines) == 100
    assert all(json.loads(line) == {"type": "log", "text": text} for line in lines)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{{"type": "metric", "key": "k{}", "value": 1}}', "metrics"),
        ('{{"type": "param", "key": "k{}", "value": 1}}', "params"),
        ('{{"type": "tag", "key": "k{}", "value": "a"}}', "tags"),
        ('{{"type": "artifact", "path": "a", "name": "k{}"}}', "artifacts"),
    ],
)
def test_an_attempt_reports_so_many_names_and_no_more(line: str, what: str) -> None:
    report = Report()
    report.take(line.format(n).encode() for n in range(MAX_KEYS))
    report.take([line.format(0).encode()])
    assert report.fault is None
    report.take([line.format(MAX_KEYS).encode()])
    assert report.fault is not None
    assert report.fault.cause == "too_much_output"
    assert isinstance(report.fault.error, LimitExceeded)
    assert f"over 1,000 different {what}" in report.fault.error.message


def test_a_model_has_no_more_metrics_than_an_attempt() -> None:
    report = Report()
    report.take([b'{"type": "metric", "key": "loss", "value": 1}'])
    metrics = {f"k{n}": n for n in range(MAX_KEYS)}
    report.take([json.dumps({"type": "model", "path": "m", "metrics": metrics}).encode()])
    assert report.fault is not None
    assert report.fault.cause == "too_much_output"


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_file_any_more_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "events.jsonl"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        (tmp_path / "secret").write_text("secret")
        path.symlink_to("secret")
    assert FileTail(path).read() == b""
