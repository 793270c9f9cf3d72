"""The life of an alert as a state machine, against what its words promise."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mcp_hub.services.telemetry.alerts.states import AlertState, Transition, step

_SECOND = 10**9


class AlertLife(RuleBasedStateMachine):
    """Evaluations at any intervals. Beside it stands how long the condition has held."""

    @initialize(for_s=st.sampled_from([0, 1, 30, 300]))
    def begin(self, for_s: int) -> None:
        self.for_ns = for_s * _SECOND
        self.now = 1_000 * _SECOND
        self.alert = AlertState("ok", self.now)
        self.holds_since: int | None = None
        self.history: list[Transition] = []

    @rule(passed_s=st.integers(0, 200), broken=st.booleans())
    def evaluate(self, passed_s: int, broken: bool) -> None:
        self.now += passed_s * _SECOND
        if not broken:
            self.holds_since = None
        elif self.holds_since is None:
            self.holds_since = self.now
        self.alert, moves = step(self.alert, broken, self.now, self.for_ns)
        self.history += moves

    @rule(back_s=st.integers(1, 500))
    def a_clock_goes_back(self, back_s: int) -> None:
        """Another process leads, whose clock is behind: nothing fires sooner by it."""
        state, moves = step(self.alert, True, self.now - back_s * _SECOND, self.for_ns)
        if self.alert.state == "pending" and self.for_ns:
            assert (state, moves) == (self.alert, [])

    @invariant()
    def it_fires_exactly_when_the_condition_has_held_for_long_enough(self) -> None:
        held = None if self.holds_since is None else self.now - self.holds_since
        expected = "ok" if held is None else "firing" if held >= self.for_ns else "pending"
        assert self.alert.state == expected

    @invariant()
    def a_state_has_lasted_since_the_last_move(self) -> None:
        assert self.alert.since <= self.now

    @invariant()
    def moves_come_in_their_order(self) -> None:
        follows: dict[Transition | None, set[Transition]] = {
            None: {"pending"},
            "pending": {"firing", "withdrawn"},
            "firing": {"resolved"},
            "resolved": {"pending"},
            "withdrawn": {"pending"},
        }
        last: Transition | None = None
        for move in self.history:
            assert move in follows[last]
            last = move


TestAlertLife = AlertLife.TestCase
