"""Sweeps: searches over the settings of training jobs."""

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from mcp_hub.services.training.sweeps.views import Direction, SweepSubmitted, SweepView
from mcp_hub.services.views import Name
from mcp_hub.tools.toolset import Toolset, caller, tool

SweepId = Annotated[str, Field(description="As training_sweep returned it")]


class SweepTools(Toolset):
    """The sweeps of the toolset `training`."""

    name = "training"

    @tool(title="Search for the best settings")
    async def training_sweep(
        self,
        ctx: Context[Any],
        name: Annotated[Name, Field(description="Name of the model that the best trial registers")],
        type: Annotated[str, Field(description="As in training_submit")],
        dataset: Annotated[str, Field(description="As in training_submit")],
        space: Annotated[
            dict[str, Any],
            Field(
                description='Config keys to search: {"params.C": {"type": "float", "low": 0.01, '
                '"high": 10, "log": true}}; type int (low, high, step) or categorical (choices)'
            ),
        ],
        metric: Annotated[
            str, Field(description="What the trials report and is compared, e.g. cv_accuracy")
        ],
        direction: Annotated[
            Direction | None, Field(description="By the metric's name if left out")
        ] = None,
        target: Annotated[str | None, Field(description="The column to predict")] = None,
        framework: Annotated[str, Field(description="See training_frameworks")] = "sklearn",
        config: Annotated[
            dict[str, Any] | None, Field(description="Settings that all trials share")
        ] = None,
        trials: Annotated[int, Field(description="1 to 1000")] = 20,
        parallel: Annotated[int, Field(description="Trials at a time, 1 to 100")] = 2,
        prune: Annotated[
            int | None,
            Field(description="After so many steps, cancel trials worse than the median"),
        ] = None,
        timeout_s: Annotated[
            float | None, Field(description="Seconds to search; the best so far is then kept")
        ] = None,
        priority: Annotated[int, Field(description="Of its jobs, -100 to 100")] = 0,
        idempotency_key: Annotated[
            str | None, Field(description="Repeat a call safely: one sweep", max_length=128)
        ] = None,
    ) -> SweepSubmitted:
        """Search a space of settings by Optuna and return at once.

        Trials are ordinary jobs of the queue that register no model. In the end the best settings
        are trained once more, which registers the sweep's one model version. Prefer a metric of
        cross-validation: one on held-out rows is then no fair estimate any more. Follow with
        training_sweep_status(sweep_id, wait_s=30).
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
        sweep_id: SweepId,
        wait_s: Annotated[
            float, Field(description="Wait up to so many seconds for its end", ge=0, le=50)
        ] = 0,
        limit: Annotated[int, Field(description="Trials a page, 1 to 200", ge=1, le=200)] = 5,
        cursor: Annotated[str | None, Field(description="next_cursor of the page before")] = None,
    ) -> SweepView:
        """A sweep's state, its best trial so far, its model in the end, and its trials, the best
        first."""
        hub = await self.hub()

        async def follow(sweep: SweepView) -> None:
            ended = sum(sweep.counts.get(state, 0) for state in ("complete", "pruned", "failed"))
            await ctx.report_progress(ended, sweep.counts["asked"], sweep_line(sweep))

        return await hub.sweeps.status(
            sweep_id, wait_s=wait_s, limit=limit, cursor=cursor, follow=follow
        )

    @tool(title="Cancel a sweep", destructive=True)
    async def training_sweep_cancel(self, sweep_id: SweepId) -> SweepView:
        """Cancel a sweep and its running trials within seconds. No model is registered; the
        trials' results stay."""
        hub = await self.hub()
        return await hub.sweeps.cancel(sweep_id)


def sweep_line(sweep: SweepView) -> str:
    """How the sweep stands, in a few words."""
    counts = ", ".join(f"{count} {state}" for state, count in sweep.counts.items())
    best = f"; best {sweep.metric} {sweep.best.value:.4g}" if sweep.best is not None else ""
    return f"{sweep.status}: {counts}{best}"
