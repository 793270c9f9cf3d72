"""A trace as a tree: what of its time each span spent itself, and on what the whole waited.

Clocks of services differ: a span that another service's parent began before it did, by their
clocks, is moved into its parent with all below it, as Jaeger's clock skew adjuster does.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_hub.services.telemetry import envelope


@dataclass(slots=True, eq=False)
class Node:
    """A span, or a log or event of the trace, which lasts no time. Times are nanoseconds."""

    record: Any
    start: int
    duration: int
    parent: "Node | None" = None
    children: list["Node"] = field(default_factory=list)
    self_time: int = 0
    """Of its duration, what none of its children covers."""
    critical: int = 0
    """Of its self time, what lies on the critical path."""
    moved: int = 0
    """By how much its clock was set right, with all above it."""
    orphan: bool = False
    """Its parent is not among the trace's records."""

    @property
    def end(self) -> int:
        return self.start + self.duration

    @property
    def is_span(self) -> bool:
        return bool(self.record.kind == "span")

    @property
    def is_error(self) -> bool:
        severity = self.record.severity
        return severity is not None and severity >= envelope.ERROR

    def walk(self) -> Iterator["Node"]:
        """This node and all below it, each before its children, which are in order of time."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))


def grow(records: Iterable[Any]) -> list[Node]:
    """The trees of a trace's records, in order of time, with all figures worked out."""
    nodes = [Node(record, record.time, record.duration_ns or 0) for record in records]
    spans: dict[bytes, Node] = {}
    for node in nodes:
        if node.is_span and node.record.span_id is not None:
            spans.setdefault(bytes(node.record.span_id), node)
    roots = [node for node in nodes if not _attach(node, spans)]
    roots += _broken_cycles(nodes, roots)
    for root in roots:
        _set_clocks(root)
        for node in root.walk():
            node.children.sort(key=lambda child: child.start)
            node.self_time = node.duration - _covered(node)
    roots.sort(key=lambda root: root.start)
    if longest := max((root for root in roots if root.is_span), key=_duration, default=None):
        _mark_critical(longest)
    return roots


def _duration(node: Node) -> int:
    return node.duration


def _attach(node: Node, spans: dict[bytes, Node]) -> bool:
    """Put a node below its span; whether it has one."""
    record = node.record
    above = record.parent_id if node.is_span else record.span_id or record.parent_id
    if above is None:
        return False
    parent = spans.get(bytes(above))
    if parent is node:
        return False
    if parent is None:
        node.orphan = node.is_span
        return False
    parent.children.append(node)
    node.parent = parent
    return True


def _broken_cycles(nodes: Sequence[Node], roots: Sequence[Node]) -> list[Node]:
    """Roots for the spans that are each other's ancestors: one of each circle."""
    seen = {id(node) for root in roots for node in root.walk()}
    found = []
    for node in nodes:
        if id(node) in seen:
            continue
        above: set[int] = set()
        while node.parent is not None and id(node) not in above:
            above.add(id(node))
            node = node.parent
        if node.parent is not None:
            node.parent.children.remove(node)
            node.parent = None
        node.orphan = True
        found.append(node)
        seen.update(id(below) for below in node.walk())
    return found


def _set_clocks(root: Node) -> None:
    for parent in root.walk():
        for child in parent.children:
            child.moved = parent.moved
            child.start += parent.moved
            if not child.is_span or child.record.service == parent.record.service:
                continue
            if child.start < parent.start:
                room = max(parent.duration - child.duration, 0)
                by = parent.start + room // 2 - child.start
                child.moved += by
                child.start += by


def _covered(node: Node) -> int:
    """How much of a span's duration its children take, those at the same time counted once."""
    covered, reached = 0, node.start
    for child in node.children:
        begin, end = max(child.start, reached), min(child.end, node.end)
        if end > begin:
            covered += end - begin
            reached = end
    return covered


def _mark_critical(root: Node) -> None:
    """Walk back from the end, each time to the child that ended last before (CRISP, ATC '22)."""
    waiting = [(root, root.end)]
    while waiting:
        node, end = waiting.pop()
        at = min(end, node.end)
        for child in sorted(node.children, key=lambda child: child.end, reverse=True):
            child_end = min(child.end, node.end)
            if not child.is_span or child_end > at or child.start < node.start:
                continue
            if child.start >= at:
                continue
            node.critical += at - child_end
            waiting.append((child, child_end))
            at = child.start
        node.critical += max(at - node.start, 0)
