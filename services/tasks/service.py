"""Tasks in the database: each a pointer to something durable, or a call that waits for answers.

A task holds no work. One that is followed says which job stands behind it, and how that stands
is looked up when somebody asks. One that asks keeps the tool call it came from; once all its
questions are answered, whichever process was told the last answer makes the call again with them.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, not_, select, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.tasks_schema import tasks as table
from mcp_hub.adapters.errors import NotFound
from mcp_hub.adapters.ids import new_id
from mcp_hub.services.tasks.views import HOLD_S, Call, Task

TTL_MS = 7 * 24 * 3600 * 1000
"""How long a task is kept, from its making on."""

_ID_LENGTH = 26  # About 123 bits: to whoever may call without a token, the id is the only key.

_held = and_(table.c.held_until.is_not(None), table.c.held_until > now_ms())


class TaskService:
    """The tasks of all callers; a task is found only by the owner that made it.

    Every method that takes a task's id raises NotFound where this owner has none of that id, or
    it has expired.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def follow(self, owner: str, tool: str, subject: str) -> Task:
        """A task for what `tool` has started, which goes on by itself."""
        values = {"owner": owner, "tool": tool, "status": "followed", "subject": subject}
        return await self._database.write(partial(_add, values=values))

    async def ask(self, owner: str, tool: str, call: Call) -> Task:
        """A task for a call of `tool` that needs answers."""
        values = {"owner": owner, "tool": tool, "status": "asking", **_asking(call)}
        return await self._database.write(partial(_add, values=values))

    async def get(self, owner: str, task_id: str) -> Task:
        return await self._database.read(partial(_find, owner=owner, task_id=task_id))

    async def answer(self, owner: str, task_id: str, answers: Mapping[str, Any]) -> Task | None:
        """Keep `answers`, by the keys of the questions; the task, once none is missing.

        Whoever gets the task holds it for `HOLD_S`: it must call `ask_again` or `end` by then. If
        it does not, because its process died, the questions answered last are asked again.
        Answers to what is not asked are passed over.
        """
        work = partial(_answer, owner=owner, task_id=task_id, answers=answers)
        return await self._database.write(work)

    async def ask_again(self, task_id: str, call: Call) -> None:
        """The call has further questions."""
        await self._change(task_id, _asking(call) | {"held_until": None})

    async def end(
        self,
        task_id: str,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> None:
        """The call has ended with a result or has failed with an error."""
        ended = {"status": "failed", "error": error} if error else {"status": "completed"}
        await self._change(task_id, ended | ({"result": result} if result else {}))

    async def cancel(self, owner: str, task_id: str) -> None:
        """Ask no more. One whose last answer has come, or that has ended, stays as it is."""

        def work(connection: Connection) -> None:
            _find(connection, owner, task_id)
            connection.execute(
                update(table)
                .where(table.c.id == task_id, table.c.status == "asking", not_(_held))
                .values(status="cancelled", updated_at=now_ms())
            )

        await self._database.write(work)

    async def _change(self, task_id: str, values: Mapping[str, Any]) -> None:
        statement = (
            update(table)
            .where(table.c.id == task_id, table.c.status == "asking")
            .values(updated_at=now_ms(), **values)
        )
        await self._database.write(lambda c: c.execute(statement), one_statement=True)


def _asking(call: Call) -> dict[str, Any]:
    return {
        "arguments": dict(call.arguments),
        "questions": dict(call.questions),
        "answers": dict(call.answers or {}),
        "state": call.state,
    }


def _add(connection: Connection, values: Mapping[str, Any]) -> Task:
    connection.execute(delete(table).where(table.c.expires_at <= now_ms()))
    task_id = new_id("task", _ID_LENGTH)
    times = {"created_at": now_ms(), "updated_at": now_ms(), "expires_at": now_ms() + TTL_MS}
    connection.execute(insert(table).values(id=task_id, **times, **values))
    return _find(connection, values["owner"], task_id)


def _find(connection: Connection, owner: str, task_id: str) -> Task:
    statement = select(table, _held.label("held")).where(
        table.c.id == task_id, table.c.owner == owner, table.c.expires_at > now_ms()
    )
    row = connection.execute(statement).first()
    if row is None:
        raise NotFound(
            f"There is no task {task_id!r}.",
            "Tasks are known to the token that made them, until their ttl has passed.",
        )
    call = Call(row.arguments, row.questions, row.state, row.answers) if row.questions else None
    return Task(
        id=row.id,
        tool=row.tool,
        status=row.status,
        subject=row.subject,
        call=call,
        held=bool(row.held),
        result=row.result,
        error=row.error,
        created_at=row.created_at,
        updated_at=row.updated_at,
        ttl_ms=row.expires_at - row.created_at,
    )


def _answer(
    connection: Connection, owner: str, task_id: str, answers: Mapping[str, Any]
) -> Task | None:
    task = _find(connection, owner, task_id)
    if task.status != "asking" or task.held or task.call is None:
        return None
    pending = task.call.pending
    given = {key: answer for key, answer in answers.items() if key in pending}
    if not given:
        return None
    known = {**(task.call.answers or {}), **given}
    complete = len(given) == len(pending)
    # The last answers are kept only as what became of them: until then they can be asked again.
    values = {"held_until": now_ms() + int(HOLD_S * 1000)} if complete else {"answers": known}
    connection.execute(
        update(table).where(table.c.id == task_id).values(updated_at=now_ms(), **values)
    )
    if not complete:
        return None
    return replace(task, held=True, call=replace(task.call, answers=known))
