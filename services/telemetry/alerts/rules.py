"""What an alert rule says, and whether a number breaks it."""

import json
import operator
from collections.abc import Callable, Sequence
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, ValidationError, model_validator

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.telemetry.aggregates.measures import parse_measures
from mcp_hub.services.telemetry.envelope import Kind
from mcp_hub.services.telemetry.filtering.filters import parse_filter
from mcp_hub.services.telemetry.windows import parse_duration
from mcp_hub.services.views import View

Comparison = Literal[">", ">=", "<", "<=", "==", "!="]
Destination = Literal["alertmanager", "webhook"]

COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt,
    "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
MINUTE_NS = 60 * 10**9
MAX_WINDOW_NS = 24 * 60 * MINUTE_NS
MAX_FOR_NS = 7 * 24 * 60 * MINUTE_NS
MIN_WINDOWS = 5
"""With fewer of them that hold something, nothing is an anomaly."""
RULE_HINT = (
    'Such as {"kind": "span", "name": "predict", "measure": "p95", "window": "5m", "op": ">", '
    '"threshold": 200, "for": "2m"}.'
)
_MAD_TO_SIGMA = 1.4826
_LABEL = r"^[a-zA-Z_][a-zA-Z0-9_]*$"

_Label = Annotated[str, Field(pattern=_LABEL, max_length=64)]
Labels = dict[_Label, Annotated[str, Field(max_length=512)]]


class Rule(View):
    """An aggregate, and when it is a reason to alert: a threshold, or a deviation."""

    kind: Kind | None = Field(None, description="event, metric, span or log; all if left out")
    name: str | None = Field(None, description="Records of this name; all if left out")
    service: str | None = Field(None, description="Records of this service; all if left out")
    where: dict[str, Any] | None = Field(None, description="Further conditions on records")
    measure: str = Field("count", description="As in telemetry_aggregate; durations in ms")
    window: str = Field("5m", description="1m to 1d, in whole minutes")
    op: Comparison = ">"
    threshold: FiniteFloat | None = None
    deviations: float | None = Field(
        None,
        ge=1,
        le=100,
        description="Instead of op and threshold: so many robust standard deviations from the "
        "24 windows before",
    )
    for_: str = Field("0s", alias="for", description="How long it must hold before it fires")
    labels: Labels = Field(default_factory=dict, max_length=20)
    annotations: Labels = Field(default_factory=dict, max_length=20)
    destinations: list[Destination] = Field(["alertmanager", "webhook"])

    @model_validator(mode="after")
    def _one_condition(self) -> "Rule":
        if (self.threshold is None) == (self.deviations is None):
            raise ValueError("give either threshold or deviations")
        return self

    @property
    def window_ns(self) -> int:
        return parse_duration(self.window, "window")

    @property
    def for_ns(self) -> int:
        return parse_duration(self.for_, "for")

    @property
    def condition(self) -> str:
        """The rule in a line."""
        what = " ".join(part for part in (self.service, self.kind, self.name) if part) or "records"
        what += f" where {json.dumps(self.where)}" if self.where else ""
        bound = (
            f"{self.op} {self.threshold:g}"
            if self.threshold is not None
            else f"deviates by {self.deviations:g} σ"
        )
        held = "" if self.for_ns == 0 else f" for {self.for_}"
        return f"{self.measure} of {what} over {self.window} {bound}{held}"


def parse_rule(said: dict[str, object]) -> Rule:
    """A rule as a caller says it.

    Raises:
        InvalidArgument: it is none; says what would be right.
    """
    try:
        rule = Rule.model_validate(said)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in fault["loc"])
        known = [field.alias or name for name, field in Rule.model_fields.items()]
        if fault["type"] == "extra_forbidden":
            raise InvalidArgument(
                f"A rule has no key {key!r}.", names_hint(key, known, "keys of a rule")
            ) from None
        message = fault["msg"].removeprefix("Value error, ")
        raise InvalidArgument(
            f"rule{f'.{key}' if key else ''}: {message}.",
            RULE_HINT,
        ) from None
    parse_measures([rule.measure])
    parse_filter(rule.where)
    if not MINUTE_NS <= rule.window_ns <= MAX_WINDOW_NS:
        raise InvalidArgument(f"window is {rule.window!r}.", "It is from 1m to 1d.")
    if rule.window_ns % MINUTE_NS:
        raise InvalidArgument(f"window is {rule.window!r}.", "It is of whole minutes, such as 5m.")
    if rule.for_ns > MAX_FOR_NS:
        raise InvalidArgument(f"for is {rule.for_!r}.", "It is at most 7d.")
    return rule


def is_broken(rule: Rule, value: float | None, before: Sequence[float | None]) -> bool:
    """Whether `value` is a reason to alert. What cannot be known is none.

    `before` are the values of the windows before, for a rule about deviations: the distance from
    their median, in units of their median absolute deviation scaled to a standard deviation
    (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993).
    """
    if value is None:
        return False
    if rule.threshold is not None:
        return COMPARE[rule.op](value, rule.threshold)
    known = [one for one in before if one is not None]
    if len(known) < MIN_WINDOWS:
        return False
    middle = median(known)
    # Where the windows hardly differ, a hundredth of their size is not yet a deviation.
    spread = max(
        _MAD_TO_SIGMA * median(abs(one - middle) for one in known), 0.01 * abs(middle), 1e-9
    )
    assert rule.deviations is not None
    return abs(value - middle) / spread > rule.deviations
