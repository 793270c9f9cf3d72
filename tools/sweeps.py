"""Sweeps: searches over the settings of training jobs."""

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from mcp_hub.services.training.sweeps.views import Direction, SweepSubmitted, SweepView
from mcp_hub.services.views import Name
from mcp_hub.tools.toolset import Toolset, caller, tool


class SweepTools(Toolset):
    """The sweeps of the toolset `training`."""

    name = "training"

    @tool(title="Search for the best settings")
    async def training_sweep(
        self,
        ctx: Context[Any],
        name: Name,
        type: str,
        dataset: str,
        space: Annotated[
            dict[str, Any],
            Field(
                description='Config keys, e.g. {"params.C": {"type": "float", "low": 0.01, '
                '"high": 10, "log": true}}; also int (low, high, step), categorical (choices)'
            ),
        ],
        metric: Annotated[
            str, Field(description="One that trials report, best cv_…: e.g. cv_accuracy")
        ],
        direction: Annotated[
            Direction | None, Field(description="By the metric's name if left out")
        ] = None,
        target: str | None = None,
        framework: str = "sklearn",
        config: Annotated[dict[str, Any] | None, Field(description="Shared by all trials")] = None,
        trials: int = 20,
        parallel: Annotated[int, Field(description="Trials at a time")] = 2,
        prune: Annotated[
            int | None,
            Field(description="From so many steps on, cancel trials below the median"),
        ] = None,
        timeout_s: Annotated[
            float | None, Field(description="Seconds to search; then keeps the best so far")
        ] = None,
        priority: int = 0,
        idempotency_key: Annotated[str | None, Field(max_length=128)] = None,
    ) -> SweepSubmitted:
        """Search a space of settings by Optuna; returns at once. Other arguments are those of
        training_submit. Trials are jobs that register no model; the best settings are trained
        once more and registered. Follow with training_sweep_status(sweep_id, wait_s=30).
        """
        from mcp_hub.services.training.submission import Submission
        from mcp_hub.services.training.sweeps.service import Sweep

        hub = await self.hub()
        job = Submission(
            name=name,
            type=type,
            framework=framework,
            dataset=dataset,
            target=target,
            config=config or {},
            priority=priority,
        )
        sweep = Sweep(
            job=job,
            space=space,
            metric=metric,
            direction=direction,
            trials=trials,
            parallel=parallel,
            prune=prune,
            timeout_s=timeout_s,
            idempotency_key=idempotency_key,
        )
        return await hub.sweeps.submit(sweep, submitted_by=caller(ctx))

    @tool(title="Follow a sweep", read_only=True)
    async def training_sweep_status(
        self,
        ctx: Context[Any],
        sweep_id: str,
        wait_s: Annotated[float, Field(ge=0, le=50)] = 0,
        limit: Annotated[int, Field(ge=1, le=200)] = 5,
        cursor: str | None = None,
    ) -> SweepView:
        """A sweep's state, best trial, model, and its trials, the best first."""
        hub = await self.hub()

        async def follow(sweep: SweepView) -> None:
            ended = sum(sweep.counts.get(state, 0) for state in ("complete", "pruned", "failed"))
            await ctx.report_progress(ended, sweep.counts["asked"], sweep_line(sweep))

        return await hub.sweeps.status(
            sweep_id, wait_s=wait_s, limit=limit, cursor=cursor, follow=follow
        )

    @tool(title="Cancel a sweep", destructive=True)
    async def training_sweep_cancel(self, sweep_id: str) -> SweepSubmitted:
        """Cancel a sweep and the trials that run; no model is registered."""
        hub = await self.hub()
        return await hub.sweeps.cancel(sweep_id)


def sweep_line(sweep: SweepView) -> str:
    """How the sweep stands, in a few words."""
    counts = ", ".join(f"{count} {state}" for state, count in sweep.counts.items())
    best = f"; best {sweep.metric} {sweep.best.value:.4g}" if sweep.best is not None else ""
    return f"{sweep.status}: {counts}{best}"
