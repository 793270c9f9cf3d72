"""Reading a job's log: pages both ways, following, filters."""

from collections.abc import Sequence

import anyio
import pytest
from sqlalchemy import Connection, insert

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import job_logs
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.training.reports import LogFilter
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.views import JobLogs
from tests.services.training.conftest import Finish, Submit, WorkerFactory

LINES = [
    (attempt, seq, "stderr" if seq % 3 == 0 else "stdout", f"line {attempt}.{seq}")
    for attempt in (1, 2)
    for seq in range(12)
]


@pytest.fixture
async def job_id(submit: Submit, database: SqliteDatabase) -> str:
    """A queued job that has the log `LINES`."""
    job_id = await submit("succeed")

    def write(connection: Connection) -> None:
        connection.execute(
            insert(job_logs).values(time=now_ms()),
            [
                {"job_id": job_id, "attempt": attempt, "seq": seq, "stream": stream, "text": text}
                for attempt, seq, stream, text in LINES
            ],
        )

    await database.write(write)
    return job_id


async def test_pages_lead_back_to_the_first_line_and_on_to_the_last(
    training: TrainingService, job_id: str
) -> None:
    page = await training.logs(job_id, tail=5)
    back = [_texts(page)]
    while page.previous_cursor is not None:
        page = await training.logs(job_id, tail=5, cursor=page.previous_cursor)
        back.insert(0, _texts(page))
    everything = [text for _, _, _, text in LINES]
    assert [text for texts in back for text in texts] == everything
    assert [len(texts) for texts in back] == [4, 5, 5, 5, 5]
    on = [*_texts(page)]
    while len(on) < len(everything):
        assert page.next_cursor is not None
        page = await training.logs(job_id, tail=7, cursor=page.next_cursor)
        assert page.previous_cursor is not None
        on += _texts(page)
    assert on == everything
    assert not page.truncated


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (LogFilter(stream="stderr"), [t for _, _, stream, t in LINES if stream == "stderr"]),
        (LogFilter(attempt=2), [t for attempt, _, _, t in LINES if attempt == 2]),
        (LogFilter(text="LINE 1.1"), ["line 1.1", "line 1.10", "line 1.11"]),
        (LogFilter(text="%"), []),
        (LogFilter("stdout", 2, "1"), ["line 2.1", "line 2.10", "line 2.11"]),
    ],
)
async def test_a_filter_leaves_lines_out_and_pages_go_on_within_it(
    training: TrainingService, job_id: str, only: LogFilter, expected: Sequence[str]
) -> None:
    page = await training.logs(job_id, tail=2, only=only)
    found = _texts(page)
    while page.previous_cursor is not None:
        page = await training.logs(job_id, tail=2, cursor=page.previous_cursor, only=only)
        found = _texts(page) + found
    assert found == expected


async def test_following_gives_each_line_as_it_comes_and_ends_with_the_job(
    training: TrainingService, worker: WorkerFactory, submit: Submit
) -> None:
    async with worker():
        job_id = await submit("print_in_turn")
        page = await training.logs(job_id)
        pages = [page]
        with anyio.fail_after(30):
            while page.next_cursor is not None:
                page = await training.logs(job_id, cursor=page.next_cursor, wait_s=20)
                pages.append(page)
    turns = [line for page in pages for line in page.lines if line.text.startswith("turn")]
    assert [line.text for line in turns] == [f"turn {n}" for n in range(6)]
    assert [line.stream for line in turns] == ["stderr", "stdout"] * 3
    with_turns = sum(any(text.startswith("turn") for text in _texts(page)) for page in pages)
    assert with_turns >= 3, "they came together, not as they were printed"


async def test_following_a_job_that_prints_nothing_ends_at_its_time(
    training: TrainingService, job_id: str
) -> None:
    page = await training.logs(job_id)
    with anyio.fail_after(5):
        page = await training.logs(job_id, cursor=page.next_cursor, wait_s=0.3)
    assert page.lines == []
    assert page.next_cursor is not None


async def test_an_ended_job_is_not_waited_for(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker():
        job_id = await submit("succeed")
        await finish(job_id)
    with anyio.fail_after(5):
        page = await training.logs(job_id, wait_s=50)
    assert page.next_cursor is None


async def test_what_is_no_wait_or_cursor_is_refused(training: TrainingService, job_id: str) -> None:
    with pytest.raises(InvalidArgument, match="wait_s is 51"):
        await training.logs(job_id, wait_s=51)
    with pytest.raises(InvalidArgument, match="is not a cursor"):
        await training.logs(job_id, cursor="nonsense")


def _texts(page: JobLogs) -> list[str]:
    return [line.text for line in page.lines]
