"""What a SELECT for PostgreSQL may be made of, checked on its syntax tree.

What is run is written anew from the tree that was checked, with the views in front of it.
"""

import re
from collections.abc import Iterable

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.adapters.records.sandbox import only_select, unknown_view
from mcp_hub.adapters.records.views import VIEW_NAMES, VIEWS

_SYNTAX = (
    "Add Alias All And Any Array AtTimeZone Between Boolean Bracket Case Cast Column CTE DataType "
    "DataTypeParam Distinct Div EQ Except Exists Filter From GT GTE Group GroupingSets Cube Having "
    "Identifier If ILike In Intersect Interval Is Join JSONPath JSONPathKey JSONPathRoot "
    "JSONPathSubscript LT LTE Lateral Like Limit Literal Mod Mul NEQ Neg Not Null NullSafeEQ "
    "NullSafeNEQ Offset Or Order Ordered Paren Rollup Select SimilarTo Star Sub Subquery Table "
    "TableAlias Tuple Union Values Var Where Window WindowSpec With WithinGroup Escape"
)
_OPERATORS = (
    "ArrayContainedBy ArrayContainsAll ArrayOverlaps DPipe JSONBContainsAllTopKeys "
    "JSONBContainsAnyTopKeys JSONBContainsTopKey JSONBExtract JSONBExtractScalar JSONExtract "
    "JSONExtractScalar RegexpILike RegexpLike"
)
_FUNCTIONS = (
    "Abs Anonymous AnyValue ArraySize Avg Ceil Coalesce Concat ConcatWs Corr Count CovarPop "
    "CovarSamp CumeDist CurrentDate CurrentTimestamp DateBin DenseRank Explode Extract FirstValue "
    "Floor Greatest Grouping IntDiv JSONBExists Lag LastValue Lead Least Left Length Ln Log "
    "LogicalAnd LogicalOr Lower MD5 Max Min Mode NthValue Ntile Nullif PercentRank PercentileCont "
    "PercentileDisc Rank RegexpCount RegrSlope Right Round RowNumber Sign SplitPart Sqrt "
    "StartsWith Stddev StddevPop StddevSamp StrPosition StrToTime Substring Sum TimeToStr "
    "TimestampTrunc Trim Trunc UnixToTime Upper Variance VariancePop WidthBucket"
)
_ALLOWED = frozenset(f"{_SYNTAX} {_OPERATORS} {_FUNCTIONS}".split())
_BY_NAME = frozenset(
    ("age", "cardinality", "date_bin", "every", "jsonb_array_elements", "jsonb_each_text",
     "jsonb_array_elements_text", "jsonb_array_length", "jsonb_each", "jsonb_extract_path_text",
     "jsonb_object_keys", "jsonb_typeof", "octet_length", "timezone")
)  # fmt: skip
_TYPES = frozenset(
    ("ARRAY", "BIGINT", "BOOLEAN", "DATE", "DECIMAL", "DOUBLE", "FLOAT", "INT", "INTERVAL", "JSON",
     "JSONB", "SMALLINT", "TEXT", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "UUID", "VARCHAR")
)  # fmt: skip
_MAX_NODES = 2_000
_MAX_JOINED = 8
"""`||` and concat in one statement: each may double the length of a text."""
_WORD = re.compile(r"[A-Za-z_]+")
_NUMBER = re.compile(r"[0-9.]+(?:[eE][-+]?[0-9]+)?")


def checked_select(sql: str) -> str:
    """The statement to run for `sql`, the views in front.

    Raises:
        InvalidArgument, Denied: it is no SELECT, or has a part that is not allowed.
    """
    try:
        tree = _parsed(sql)
        _check(tree)
        views, own = _rewritten(tree)
        # What the database will read is looked at once more, as it is written.
        _check(_parsed(own))
    except SqlglotError as error:
        said = str(error).split("\n")[0].rstrip(".")
        raise InvalidArgument(
            f"The SQL is wrong: {said}.", "Write PostgreSQL's dialect: see hub://schema/telemetry."
        ) from None
    except RecursionError:
        raise InvalidArgument("The SQL is nested too deeply.") from None
    if own.startswith("WITH "):
        own = own.replace("WITH ", ", " if views else "WITH ", 1)
    return f"WITH {', '.join(views)}{own if own.startswith(',') else f' {own}'}" if views else own


def _parsed(sql: str) -> exp.Expr:
    statements = [one for one in sqlglot.parse(sql, dialect="postgres") if one is not None]
    if len(statements) != 1:
        raise only_select("More than one statement" if statements else "Nothing")
    return normalize_identifiers(statements[0], dialect="postgres")


def _check(tree: exp.Expr) -> None:
    if not isinstance(tree, exp.Select | exp.SetOperation | exp.Subquery | exp.Values):
        raise only_select(tree.key.upper())
    joined = 0
    for place, node in enumerate(tree.walk()):
        name = type(node).__name__
        if place > _MAX_NODES:
            raise InvalidArgument("The SQL has too many parts.")
        if name not in _ALLOWED:
            raise only_select(_named(node))
        if isinstance(node, exp.Array) and node.find(exp.Query):
            raise only_select("An ARRAY of what a SELECT gives")
        if isinstance(node, exp.Anonymous):
            _check_function(node)
        # Both are written as they are.
        if isinstance(node, exp.Var) and not _WORD.fullmatch(node.name):
            raise only_select(f"{node.name[:40]!r}")
        if (
            isinstance(node, exp.Literal)
            and not node.is_string
            and not _NUMBER.fullmatch(node.this)
        ):
            raise only_select(f"{node.name[:40]!r}")
        if isinstance(node, exp.DataType) and node.this.name not in _TYPES:
            raise only_select(f"The type {node.sql(dialect='postgres')}")
        if isinstance(node, exp.With) and (node.args.get("recursive") or node.parent is not tree):
            raise only_select("WITH RECURSIVE, or WITH below the top,")
        joined += isinstance(node, exp.DPipe | exp.Concat | exp.ConcatWs)
    if joined > _MAX_JOINED:
        raise only_select(f"Joining more than {_MAX_JOINED} texts")
    _check_tables(tree)


def _check_function(node: exp.Anonymous) -> None:
    called = node.this
    if not isinstance(called, str) or called.lower() not in _BY_NAME:
        raise only_select(f"The function {str(called).lower()}")


def _check_tables(tree: exp.Expr) -> None:
    """See that each table is a view, or a WITH that comes before."""
    known = set(VIEW_NAMES)
    parts: list[exp.Expr] = []
    clause = tree.find(exp.With)
    for cte in clause.expressions if clause else ():
        _check_names(cte.find_all(exp.Table), known)
        if cte.alias in known:
            raise InvalidArgument(f"There is a {cte.alias!r} already.", "Give another name.")
        known.add(cte.alias)
        parts.append(cte)
    inside = {id(table) for part in parts for table in part.find_all(exp.Table)}
    _check_names((one for one in tree.find_all(exp.Table) if id(one) not in inside), known)


def _check_names(tables: Iterable[exp.Table], known: set[str]) -> None:
    for table in tables:
        if isinstance(table.this, exp.Func):
            continue
        if table.args.get("db") or table.args.get("catalog") or table.name not in known:
            raise unknown_view(".".join(part.name for part in table.parts))


def _named(node: exp.Expr) -> str:
    if isinstance(node, exp.Func):
        return f"The function {node.sql_name().lower()}"
    if isinstance(node, exp.ByteString | exp.RawString | exp.UnicodeString):
        return "Another quote than '…'"
    return node.key.upper()


def _rewritten(tree: exp.Expr) -> tuple[list[str], str]:
    """The views that a statement uses, as parts of its WITH, and the statement itself."""
    used = {table.name for table in tree.find_all(exp.Table)}
    views = [
        f'"{view.name}" AS NOT MATERIALIZED ({view.select("postgresql")})'
        for view in VIEWS
        if view.name in used
    ]
    return views, tree.sql(dialect="postgres", identify=True, comments=False)
