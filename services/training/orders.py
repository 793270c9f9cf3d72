"""A job as data ask for it: the arguments of training_submit, in a message or in a schedule."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.data.rules import Rule
from mcp_hub.services.training.submission import Submission
from mcp_hub.services.training.views import JobLimits
from mcp_hub.services.views import Name


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name
    type: str
    dataset: str
    target: str | None = None
    framework: str = "sklearn"
    config: dict[str, Any] | None = None
    priority: int = 0
    timeout_s: float | None = None
    max_retries: int = 0
    depends_on: list[str] | None = None
    idempotency_key: str | None = None
    limits: JobLimits | None = None
    require: list[Rule] | None = None
    start_at: str | float | None = None


def submission_of(data: Mapping[str, Any]) -> Submission:
    """The submission that the arguments of training_submit in `data` ask for.

    Raises:
        InvalidArgument: one is missing, unknown or of the wrong type; says what would be right.
    """
    try:
        order = _Order.model_validate(data)
    except ValidationError as error:
        raise _explained(error, data) from None
    given = {name: getattr(order, name) for name in _Order.model_fields}
    return Submission(**{name: value for name, value in given.items() if value is not None})


def _explained(error: ValidationError, data: Mapping[str, Any]) -> InvalidArgument:
    fault = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in fault["loc"])
    known = sorted(_Order.model_fields)
    if fault["type"] == "extra_forbidden":
        return InvalidArgument(
            f"training_submit has no parameter {name!r}.", names_hint(name, known, "parameters")
        )
    if fault["type"] == "missing":
        return InvalidArgument(f"The job's data lack {name!r}.", f"Given: {', '.join(data)}.")
    shown = str(fault["input"])[:80]
    return InvalidArgument(f"{name} is {shown!r}: {fault['msg']}.")
