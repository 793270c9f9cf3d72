"""What the sweep tools return."""

from typing import Any, Literal

from pydantic import Field

from mcp_hub.services.views import Error, View

Direction = Literal["maximize", "minimize"]
SweepStatus = Literal["searching", "finishing", "succeeded", "failed", "cancelled"]
TrialStatus = Literal["running", "pruning", "complete", "pruned", "failed"]

ENDED: frozenset[SweepStatus] = frozenset({"succeeded", "failed", "cancelled"})


class SweepSubmitted(View):
    sweep_id: str
    status: SweepStatus
    note: str | None = None


class SweepSummary(View):
    """A sweep as a list shows it: `ended` of its `trials` have, and the best value so far."""

    sweep_id: str
    status: SweepStatus
    name: str
    metric: str
    ended: int
    trials: int
    best: float | None
    model: str | None
    error: str | None
    created_at: str


class TrialView(View):
    """A trial: its settings, and what it reached or why it did not."""

    number: int
    job_id: str | None
    status: TrialStatus
    value: float | None
    params: dict[str, Any]
    reason: str | None


class SweepView(View):
    """A sweep as it stands. `trials` is a page of them, the best first, then those without a
    value; `importances` are shares of 1, from ten complete trials on."""

    sweep_id: str
    status: SweepStatus
    name: str
    metric: str
    direction: Direction
    counts: dict[str, int] = Field(description="Trials by status, and asked")
    best: TrialView | None
    importances: dict[str, float] | None
    best_job_id: str | None
    model: str | None
    error: Error | None
    ended_by: str | None
    created_at: str
    finished_at: str | None
    trials: list[TrialView]
    next_cursor: str | None
