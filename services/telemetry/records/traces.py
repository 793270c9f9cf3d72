"""Traces as trees, cut down to what an agent can read."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread
from sqlalchemy import Connection, func, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import telemetry_records, telemetry_series
from mcp_hub.adapters.errors import InvalidArgument, NotFound, names_hint
from mcp_hub.services.telemetry.filtering.filter_sql import conditions_on_records
from mcp_hub.services.telemetry.filtering.filters import parse_filter
from mcp_hub.services.telemetry.intake.naming import to_text
from mcp_hub.services.telemetry.records import presenting
from mcp_hub.services.telemetry.records.spans import Node, grow
from mcp_hub.services.telemetry.views import TraceView

MAX_RECORDS = 20_000
ROWS = 200
"""A trace of more records, or whose rows are longer than `_CHARACTERS`, is cut to a skeleton."""
_CHARACTERS = 20_000
_CHARACTERS_OF_THE_REST = 12_000
"""When a skeleton is so long, only what is important is added to it."""
_IMPORTANT = 40
_ALIKE = 3
"""So many siblings of one name are shown each for itself."""
_TEXT_SHOWN = 160
_NAME_SHOWN = 80
_SERVICES_SHOWN = 20
_IDS_SHOWN = 5
_RECORDS_LOOKED_AT = 1_000
_FEWEST_DIGITS = 4
_COLUMNS = [
    "depth", "start_ms", "duration_ms", "self_ms", "critical_ms", "service", "what", "marks",
    "span_id",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Group:
    """Siblings of one service and name that are said in one row."""

    nodes: Sequence[Node]


@dataclass(slots=True)
class _Tree:
    """Rows of a tree; as many as there is room for, where it is a skeleton."""

    base: int
    skeleton: bool
    keep: set[int]
    rows: list[list[Any]] = field(default_factory=list)
    left_out: int = 0
    characters: int = 0

    def add(self, root: Node) -> None:
        waiting: list[tuple[Node | _Group, int]] = [(root, 0)]
        while waiting:
            item, depth = waiting.pop()
            nodes = item.nodes if isinstance(item, _Group) else [item]
            most = _CHARACTERS if id(item) in self.keep else _CHARACTERS_OF_THE_REST
            if self.skeleton and self.characters > most:
                self._leave_out(nodes)
            elif isinstance(item, _Group):
                self._add_row(_group_row(nodes, depth, self.base))
                self._leave_out(nodes)
            else:
                self._add_row(_row(item, depth, self.base))
                shown = self._shown(item.children) if self.skeleton else item.children
                waiting += [(one, depth + 1) for one in reversed(shown)]

    def _add_row(self, row: list[Any]) -> None:
        self.rows.append(row)
        self.characters += len(to_text(row))

    def _leave_out(self, nodes: Sequence[Node]) -> None:
        self.left_out += sum(1 for node in nodes for _ in node.walk())

    def _shown(self, children: Sequence[Node]) -> list[Node | _Group]:
        """Children, of those alike only the ones that matter and the slowest."""
        alike: dict[tuple[str, str, str], list[Node]] = {}
        for child in children:
            alike.setdefault(_likeness(child), []).append(child)
        gone: set[int] = set()
        groups: list[tuple[int, _Group]] = []
        for nodes in alike.values():
            if len(nodes) <= _ALIKE:
                continue
            slowest = max(nodes, key=lambda node: node.duration)
            rest = [node for node in nodes if id(node) not in self.keep and node is not slowest]
            if len(rest) > 1:
                gone |= {id(node) for node in rest}
                groups.append((rest[0].start, _Group(rest)))
        kept: list[tuple[int, Node | _Group]] = [
            (child.start, child) for child in children if id(child) not in gone
        ]
        return [item for _, item in sorted([*kept, *groups], key=lambda pair: pair[0])]


class Traces:
    """What belongs to one trace, as a tree."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def trace(self, trace_id: str, span_id: str | None = None) -> TraceView:
        """The spans of a trace with its logs and events; with `span_id`, what is below that span.

        `trace_id` may be its first digits.

        Raises:
            InvalidArgument: an id is none, or begins several.
            NotFound: there is no such trace or span.
        """
        id = await self._database.read(lambda c: _whole_id(c, trace_id, self._database.dialect))
        rows = await self._database.read(lambda c: _records(c, id))
        return await to_thread.run_sync(_view, id, rows, span_id)

    async def newest(self, prefix: str = "") -> list[str]:
        """The ids of the newest traces, of those that begin so."""
        return await self._database.read(lambda c: _newest(c, prefix.strip().lower()))


def _newest(connection: Connection, prefix: str) -> list[str]:
    column = telemetry_records.c.trace_id
    records = select(column).order_by(telemetry_records.c.time.desc()).limit(_RECORDS_LOOKED_AT)
    found = (bytes(id).hex() for id in connection.execute(records).scalars() if id is not None)
    return [id for id in dict.fromkeys(found) if id.startswith(prefix)]


def _whole_id(connection: Connection, trace_id: str, dialect: Any) -> bytes:
    digits = trace_id.strip().lower().replace("-", "")
    if len(digits) < _FEWEST_DIGITS:
        raise InvalidArgument(
            f"trace_id is {trace_id!r}.", f"Give at least {_FEWEST_DIGITS} of its digits."
        )
    begins = conditions_on_records(parse_filter({"trace_id": {"prefix": digits}}), dialect)
    column = telemetry_records.c.trace_id
    query = select(column).where(column.is_not(None), *begins).distinct().limit(_IDS_SHOWN + 1)
    found = sorted(bytes(id).hex() for id in connection.execute(query).scalars())
    if not found:
        raise NotFound(
            f"There is no trace {trace_id!r}.",
            'telemetry_search(kind="span") shows newest spans with their trace_id.',
        )
    if len(found) > 1:
        more = " and more" if len(found) > _IDS_SHOWN else ""
        raise InvalidArgument(
            f"{trace_id!r} begins several traces.", f"{', '.join(found[:_IDS_SHOWN])}{more}."
        )
    return bytes.fromhex(found[0])


def _records(connection: Connection, id: bytes) -> Sequence[Any]:
    table = telemetry_records.c
    query = (
        select(
            telemetry_series.c.kind,
            telemetry_series.c.name,
            telemetry_series.c.service,
            table.time,
            table.severity,
            table.span_id,
            table.parent_id,
            table.duration_ns,
            table.value,
            func.substr(table.body, 1, _TEXT_SHOWN + 1).label("body"),
        )
        .join_from(telemetry_records, telemetry_series, table.series == telemetry_series.c.series)
        .where(table.trace_id == id)
        .order_by(table.time, table.id)
        .limit(MAX_RECORDS + 1)
    )
    return connection.execute(query).all()


def _view(id: bytes, rows: Sequence[Any], span_id: str | None) -> TraceView:
    roots = grow(rows[:MAX_RECORDS])
    nodes = [node for root in roots for node in root.walk()]
    begin = min(node.start for node in nodes)
    end = max(node.end for node in nodes)
    spans = [node for node in nodes if node.is_span]
    shown = roots if span_id is None else [_below(spans, span_id)]
    tree = _drawn(shown, begin)
    return TraceView(
        trace_id=id.hex(),
        time=presenting.iso_ns(begin),
        duration_ms=presenting.milliseconds(end - begin) or 0.0,
        spans=len(spans),
        others=len(nodes) - len(spans),
        errors=sum(node.is_error for node in nodes),
        services=_counted(spans),
        columns=_COLUMNS,
        rows=tree.rows,
        truncated=bool(tree.left_out) or len(rows) > MAX_RECORDS,
        note=_note(tree, shown, cut=len(rows) > MAX_RECORDS),
    )


def _drawn(roots: Sequence[Node], base: int) -> _Tree:
    if sum(1 for root in roots for _ in root.walk()) <= ROWS:
        tree = _Tree(base, skeleton=False, keep=set())
        for root in roots:
            tree.add(root)
        if tree.characters <= _CHARACTERS:
            return tree
    tree = _Tree(base, skeleton=True, keep=_important(roots))
    for root in roots:
        tree.add(root)
    return tree


def _counted(spans: Sequence[Node]) -> dict[str, int]:
    counts = Counter(node.record.service for node in spans)
    shown = dict(counts.most_common(_SERVICES_SHOWN))
    if len(counts) > len(shown):
        shown[f"{len(counts) - len(shown)} more"] = counts.total() - sum(shown.values())
    return shown


def _below(spans: Sequence[Node], span_id: str) -> Node:
    known = {bytes(span.record.span_id).hex(): span for span in spans if span.record.span_id}
    found = [span for id, span in known.items() if id.startswith(span_id.strip().lower())]
    if len(found) != 1:
        raise NotFound(f"The trace has no span {span_id!r}.", names_hint(span_id, known, "spans"))
    return found[0]


def _important(roots: Sequence[Node]) -> set[int]:
    """What a skeleton shows if it can: errors and the critical path, and what they are below.

    Of many, the errors that came first and the longest parts of the path.
    """
    nodes = [node for root in roots for node in root.walk()]
    errors = sorted((node for node in nodes if node.is_error), key=lambda node: node.start)
    critical = sorted((node for node in nodes if node.critical), key=lambda node: -node.critical)
    keep: set[int] = set()
    for some in (errors, critical):
        room = len(keep) + _IMPORTANT
        for node in some:
            path = _path(node, keep, room - len(keep))
            keep |= path
    return keep


def _path(node: Node, known: set[int], most: int) -> set[int]:
    """The node and what it is below, as far as that is not known; nothing if it is too long."""
    path: set[int] = set()
    at: Node | None = node
    while at is not None and id(at) not in known:
        path.add(id(at))
        if len(path) > most:
            return set()
        at = at.parent
    return path


def _likeness(node: Node) -> tuple[str, str, str]:
    return node.record.kind, node.record.service, node.record.name


def _row(node: Node, depth: int, base: int) -> list[Any]:
    record = node.record
    marks = []
    if node.is_error:
        marks.append("error")
    if node.orphan:
        marks.append("parent missing")
    by = node.moved - (node.parent.moved if node.parent else 0)
    if by:
        marks.append(f"clock set by {by / 1e6:+.3f} ms")
    return [
        depth,
        _ms(node.start - base),
        _ms(node.duration) if node.is_span else None,
        _ms(node.self_time) if node.is_span else None,
        _ms(node.critical) if node.critical else None,
        _cut(record.service, _NAME_SHOWN),
        _what(record),
        ", ".join(marks) or None,
        bytes(record.span_id).hex() if node.is_span and record.span_id else None,
    ]


def _group_row(nodes: Sequence[Node], depth: int, base: int) -> list[Any]:
    first = nodes[0]
    longest = max(node.duration for node in nodes)
    below = sum(1 for node in nodes for _ in node.walk()) - len(nodes)
    what = f"{len(nodes)} more: {_cut(first.record.name, _NAME_SHOWN)}"
    if first.is_span:
        what += f" (at most {longest / 1e6:.3f} ms each)"
    if below:
        what += f", {below} below them"
    errors = sum(below.is_error for node in nodes for below in node.walk())
    return [
        depth,
        _ms(first.start - base),
        _ms(sum(node.duration for node in nodes)) if first.is_span else None,
        _ms(sum(node.self_time for node in nodes)) if first.is_span else None,
        _ms(sum(node.critical for node in nodes)) or None,
        _cut(first.record.service, _NAME_SHOWN),
        what,
        f"{errors} errors" if errors else None,
        None,
    ]


def _what(record: Any) -> str:
    name = _cut(record.name, _NAME_SHOWN)
    if record.kind == "span":
        return name
    text = record.body or ("" if record.value is None else f"{record.value:g}")
    return f"{record.kind} {name}: {_cut(text, _TEXT_SHOWN)}" if text else f"{record.kind} {name}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)


def _note(tree: _Tree, shown: Sequence[Node], *, cut: bool) -> str | None:
    notes = []
    if tree.left_out:
        notes.append(
            f"{tree.left_out:,} records are left out: telemetry_trace with span_id shows what "
            'is below a span; telemetry_search(where={"trace_id": …, "parent_id": …}) lists its '
            "children."
        )
    if cut:
        notes.append(f"Only the first {MAX_RECORDS:,} records of the trace were read.")
    if any(root.orphan for root in shown):
        notes.append("Spans whose parent is missing: it may still be running, or was not sent.")
    return " ".join(notes) or None
