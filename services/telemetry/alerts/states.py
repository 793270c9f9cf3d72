"""The life of an alert: ok → pending → firing → ok again, which is called resolved."""

from dataclasses import dataclass
from typing import Literal, get_args

State = Literal["ok", "pending", "firing"]
Transition = Literal["pending", "firing", "resolved", "withdrawn"]

STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True, slots=True)
class AlertState:
    """A state, and since when (ns)."""

    state: State
    since: int


def step(
    current: AlertState, broken: bool, now: int, for_ns: int
) -> tuple[AlertState, list[Transition]]:
    """What becomes of an alert whose condition holds now or not, and the moves on the way.

    It fires once the condition has held at every evaluation for `for_ns`. A clock that went back
    makes it wait longer, never shorter.
    """
    if not broken:
        if current.state == "firing":
            return AlertState("ok", now), ["resolved"]
        if current.state == "pending":
            return AlertState("ok", now), ["withdrawn"]
        return current, []
    moves: list[Transition] = []
    if current.state == "ok":
        current = AlertState("pending", now)
        moves.append("pending")
    if current.state == "pending" and now - current.since >= for_ns:
        current = AlertState("firing", now)
        moves.append("firing")
    return current, moves
