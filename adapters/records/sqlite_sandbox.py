"""The sandbox on SQLite: a connection of its own, which an authorizer and a clock watch."""

import re
import sqlite3
import time
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote

import anyio
from anyio import to_thread

from mcp_hub.adapters.errors import HubError, InvalidArgument, Unavailable
from mcp_hub.adapters.records.sandbox import (
    Gathering,
    Limits,
    Selected,
    check_text,
    only_select,
    too_slow,
    unknown_view,
    wrong,
)
from mcp_hub.adapters.records.views import TABLES, VIEW_NAMES, VIEWS

FUNCTIONS = frozenset((
    "->", "->>", "abs", "avg", "ceil", "ceiling", "coalesce", "count", "cume_dist", "date",
    "datetime", "dense_rank", "exp", "first_value", "floor", "glob", "group_concat", "hex",
    "ifnull", "iif", "instr", "json", "json_array", "json_array_length", "json_extract",
    "json_group_array", "json_group_object", "json_object", "json_quote", "json_type",
    "json_valid", "julianday", "lag", "last_value", "lead", "length", "like", "ln", "log",
    "log10", "log2", "lower", "ltrim", "max", "min", "mod", "nth_value", "ntile", "nullif",
    "percent_rank", "pow", "power", "rank", "replace", "round", "row_number", "rtrim", "sign",
    "sqrt", "strftime", "substr", "substring", "sum", "time", "total", "trim", "trunc",
    "typeof", "unicode", "unixepoch", "upper",
))  # fmt: skip

_AT_ONCE = 2
_STEPS = 20_000
_GRACE_S = 1.0
_LIMITS = {
    # Also of a row: one with the longest body and attributes fits.
    sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 20_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 50_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 50,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_JSON_TABLES = ("json_each", "json_tree")
_TABLES = "SELECT name FROM main.sqlite_master UNION SELECT name FROM pragma_module_list"
_BUILT_IN = ("sqlite_", "pragma_")
_BEGINS_A_SELECT = re.compile(
    r"(?>\s|--[^\n]*\n|/\*.*?\*/|\()*+(?:select|with|values)\b", re.I | re.S
)
# An arrow's key; before it, what may hold something that only looks like one.
_KEYS = re.compile(
    r"""'(?:[^']|'')*+' | "[^"]*" | `[^`]*` | --[^\n]* | /\*.*?\*/
    | (?P<arrow> ->>?\s*) '(?P<key> [^'"$\[\\] (?:[^'"\\]|'')*+ | )'""",
    re.VERBOSE | re.DOTALL,
)
# What is true of every time of the day: a blank sorts before the T of ISO 8601.
_WRONG_TIME = re.compile(
    r"""\b(?:first_)?(?:time|minute)\s*(?:[<>]=?|between)\s*
    (?:datetime\s*\(|'\d{4}-\d\d-\d\d\x20\d)""",
    re.VERBOSE | re.IGNORECASE,
)
_READS = {
    sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
}  # fmt: skip


class SqliteSandbox:
    """A read-only connection for each SELECT, with the views as its temporary ones.

    The authorizer lets it read the views, and what they are of through them; call functions of a
    list; and nothing else. What reads the tables has a name that nobody can guess, because to the
    authorizer a WITH is a view like any other. Sorting and grouping spill to files, so that memory
    is bounded by the limits on the length of a value.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slots = anyio.CapacityLimiter(_AT_ONCE)

    async def select(self, sql: str, limits: Limits) -> Selected:
        check_text(sql)
        if _WRONG_TIME.search(sql):
            raise InvalidArgument(
                "Times are texts such as 2026-01-31T12:00:00.000Z, which what datetime() gives "
                "is not compared with rightly.",
                "Write time_ns > (unixepoch() - 3600) * 1000000000, or time > "
                "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 hour').",
            )
        # Within one call of a function no clock is looked at: then the thread ends by itself.
        with anyio.move_on_after(limits.timeout_s + _GRACE_S):
            return await to_thread.run_sync(
                self._select, sql, limits, limiter=self._slots, abandon_on_cancel=True
            )
        raise too_slow(limits.timeout_s)

    def _select(self, sql: str, limits: Limits) -> Selected:
        deadline = time.monotonic() + limits.timeout_s
        if not _BEGINS_A_SELECT.match(sql):
            raise only_select(f"{' '.join(sql.split()[:1]) or 'Nothing'}")
        watch = _Authorizer(f"view_{token_hex(8)}_")
        try:
            connection = self._connect(watch)
        except sqlite3.Error as error:
            raise Unavailable(f"The database cannot be read: {error}.") from error
        try:
            connection.set_authorizer(watch)
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
            cursor = connection.execute(_KEYS.sub(_quoted_key, sql))
            gathering = Gathering([column[0] for column in cursor.description or ()], limits)
            for row in cursor:
                if not gathering.add(row):
                    break
            return gathering.done()
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise _meaning(error, watch, limits) from error
        finally:
            connection.close()

    def _connect(self, watch: "_Authorizer") -> sqlite3.Connection:
        uri = f"file:{quote(str(self._path))}?mode=ro"
        connection = sqlite3.connect(
            uri, uri=True, timeout=1.0, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA cache_size = -8192")
            connection.execute("PRAGMA temp_store = FILE")
            for view in VIEWS:
                inner = f"{watch.prefix}{view.name}"
                connection.execute(f"CREATE TEMP VIEW {inner} AS {view.select('sqlite')}")
                connection.execute(f"CREATE TEMP VIEW {view.name} AS SELECT * FROM {inner}")
            for table in _JSON_TABLES:
                # Afterwards it is known, and need not be declared under the authorizer's eyes.
                connection.execute(f"SELECT * FROM {table}('[]')").fetchall()
            watch.tables = {name.lower() for (name,) in connection.execute(_TABLES)}
            connection.execute("PRAGMA query_only = ON")
            for limit, value in _LIMITS.items():
                connection.setlimit(limit, value)
        except BaseException:
            connection.close()
            raise
        return connection


def _quoted_key(found: re.Match[str]) -> str:
    """Let a key with dots be one key, as on PostgreSQL: to SQLite before 3.44 it is a path."""
    if found["arrow"] is None:
        return found[0]
    return f"""{found["arrow"]}'$."{found["key"]}"'"""


class _Authorizer:
    """What SQLite asks while it compiles a statement; remembers the first refusal."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        """Of the names of what may read the tables."""
        self.tables: set[str] = set()
        """What a name may stand for besides the views and what is after WITH."""
        self.refused: HubError | None = None

    def __call__(
        self, action: int, first: str | None, second: str | None, base: str | None, by: str | None
    ) -> int:
        refusal = self._refusal(action, first, second, by)
        if refusal is None:
            return sqlite3.SQLITE_OK
        self.refused = self.refused or refusal
        return sqlite3.SQLITE_DENY

    def _refusal(
        self, action: int, first: str | None, second: str | None, by: str | None
    ) -> HubError | None:
        if action not in _READS:
            return only_select("Anything but reading")
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in FUNCTIONS:
            return only_select(f"The function {second}")
        if action != sqlite3.SQLITE_READ:
            return None
        name = (first or "").lower()
        if name in (*VIEW_NAMES, *_JSON_TABLES) or name.startswith(self.prefix):
            return None
        if name in TABLES and (by or "").startswith(self.prefix):
            return None
        # Where only rows are counted no column is named, and what is after WITH is asked for too.
        if not second and name not in self.tables and not name.startswith(_BUILT_IN):
            return None
        return unknown_view(first or "")


def _meaning(
    error: sqlite3.Error | sqlite3.Warning, watch: _Authorizer, limits: Limits
) -> HubError:
    if watch.refused is not None:
        return watch.refused
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_INTERRUPT:
        return too_slow(limits.timeout_s)
    if "one statement at a time" in str(error):
        return only_select("More than one statement")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR):
        return Unavailable(f"The database cannot be read: {error}.", "Try again.")
    return wrong(str(error))
