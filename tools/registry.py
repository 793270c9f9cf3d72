"""The model registry: versions, aliases, promotion."""

from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from mcp_hub.services.registry.gates import Approval, Gates
from mcp_hub.services.registry.views import (
    Deleted,
    Lineage,
    ModelComparison,
    ModelSummary,
    ModelTags,
    ModelView,
    Promotion,
)
from mcp_hub.services.scoring.views import Evaluation
from mcp_hub.services.views import Page
from mcp_hub.tools.asking import ask
from mcp_hub.tools.scoring import Features, WaitS
from mcp_hub.tools.toolset import Toolset, caller, tool
from mcp_hub.tools.training import reporter

if TYPE_CHECKING:
    from mcp_hub.services.registry.promoting import Judged

_INPUTS_SHOWN = 100
_METRICS_SHOWN = 8
_COMMENT_KEPT = 500
_APPROVAL_SCHEMA = {
    "type": "object",
    "properties": {
        "approve": {"type": "boolean", "title": "Promote this version"},
        "comment": {"type": "string", "title": "Comment, kept with the decision"},
    },
    "required": ["approve"],
}

Model = Annotated[str, Field(description="name (its newest version), name@alias or name:version")]


class RegistryTools(Toolset):
    """The toolset `registry`."""

    name = "registry"

    @tool(title="List models", read_only=True)
    async def model_list(
        self,
        name: Annotated[str | None, Field(description="Only names that contain this")] = None,
        tag: Annotated[
            str | None,
            Field(description="Only with this tag on the newest version: key or key=value"),
        ] = None,
        limit: Annotated[int, Field(description="Models a page, 1 to 200", ge=1, le=200)] = 20,
        cursor: Annotated[str | None, Field(description="next_cursor of the page before")] = None,
    ) -> Page[ModelSummary]:
        """Registered models by name: newest version with its metrics, and where aliases point."""
        return await (await self.hub()).registry.list(limit, cursor, name=name, tag=tag)

    @tool(title="Get a model version", read_only=True)
    async def model_get(
        self,
        model: Model,
        limit: Annotated[
            int, Field(description="Most inputs to list of a wide signature", ge=1)
        ] = _INPUTS_SHOWN,
        artifact: Annotated[
            str | None,
            Field(description="Also the content of this artifact, e.g. leaderboard.json"),
        ] = None,
    ) -> ModelView:
        """A model version: metrics, aliases, tags, params, artifacts, source job and data set, and
        its signature: the columns that `predict` takes and the outputs it gives."""
        return _cut(await (await self.hub()).registry.get(model, artifact), limit)

    @tool(title="Register an ONNX model")
    async def model_register(
        self,
        ctx: Context[Any],
        name: Annotated[
            str, Field(description="The model to add the next version to, or a new one")
        ],
        path: Annotated[
            str, Field(description="An ONNX file, absolute or relative to a workspace root")
        ],
        description: str = "",
        tags: Annotated[dict[str, str] | None, Field(description="Key → value")] = None,
        metrics: Annotated[
            dict[str, float] | None, Field(description="Its scores, which promotion gates look at")
        ] = None,
    ) -> ModelView:
        """Add an ONNX file trained elsewhere as a model's next version.

        The signature is read from the file, which must be whole in itself and use standard
        operators only. Models trained by training_submit are registered by themselves. Next:
        predict, or model_promote.
        """
        registry = (await self.hub()).registry
        view = await registry.register(
            name,
            path,
            description=description,
            tags=tags,
            metrics=metrics,
            created_by=caller(ctx),
        )
        return _cut(view)

    @tool(title="Evaluate a model version", idempotent=True)
    async def model_evaluate(
        self,
        ctx: Context[Any],
        model: Model,
        dataset: Annotated[
            str, Field(description="A registered data set with the true answers, best unseen rows")
        ],
        target: Annotated[
            str | None, Field(description="Column of true answers; by default that of training")
        ] = None,
        by: Annotated[
            str | None, Field(description="Also score the rows of each value of this column")
        ] = None,
        features: Features = None,
        wait_s: WaitS = 0,
    ) -> Evaluation:
        """Score a model version on a data set: metrics, each class, confusion matrix, slices.

        Runs as a job. Without wait_s it answers at once: call again with the same arguments and
        wait_s=50, which gives the result, also later, without scoring anew. Kept with the
        version: model_promote's gate evaluated="DATASET" judges by these metrics.
        """
        scoring = (await self.hub()).scoring
        return await scoring.evaluate(
            model,
            dataset,
            target=target,
            by=by,
            features=features,
            wait_s=wait_s,
            follow=reporter(ctx),
            asked_by=caller(ctx),
        )

    @tool(title="Promote a model version", destructive=True)
    async def model_promote(
        self,
        ctx: Context[Any],
        model: Model,
        alias: Annotated[str, Field(description="The alias to move, e.g. champion")],
        gates: Annotated[
            Gates | None,
            Field(
                description='Conditions, as {"min_metric": {"accuracy": 0.9}, '
                '"better_than_current": "accuracy", "same_signature": true, '
                '"evaluated": "holdout", "human_approval": true}; '
                "without any the alias moves at once"
            ),
        ] = None,
        reason: Annotated[str, Field(description="Why, kept with the decision")] = "",
    ) -> Promotion:
        """Point an alias at a model version if every gate passes.

        If one fails, the alias stays, promoted is false, and `gates` tells what was expected and
        what it was. Every decision is kept either way (model_lineage). `previous` is the version
        that the alias pointed at before: to roll back, promote name:previous. Then predict with
        name@alias.
        """
        registry = (await self.hub()).registry
        judged = await registry.lacks_approval(model, alias, gates=gates)
        approval = None if judged is None else await _approval(ctx, judged, alias, reason)
        return await registry.promote(
            model, alias, gates=gates, reason=reason, decided_by=caller(ctx), approval=approval
        )

    @tool(title="Compare model versions", read_only=True)
    async def model_compare(
        self,
        models: Annotated[
            list[str],
            Field(description="2 to 20 references: name, name@alias or name:version"),
        ],
    ) -> ModelComparison:
        """Versions side by side, of one model or of several: every metric with the best version
        (null on a tie), the params that differ, and whether signature and data set are the same.
        """
        return await (await self.hub()).registry.compare(models)

    @tool(title="Trace a model version", read_only=True)
    async def model_lineage(self, model: Model) -> Lineage:
        """Where a model version came from, and what became of it: its training job and config,
        its data set with hash, its aliases, and its last 20 promotion decisions with who and why.
        """
        return await (await self.hub()).registry.lineage(model)

    @tool(title="Tag a model version", destructive=True, idempotent=True)
    async def model_tag(
        self,
        model: Model,
        tags: Annotated[
            dict[str, str | None], Field(description="Key → value; null removes the tag")
        ],
    ) -> ModelTags:
        """Set or remove tags of one model version; tags that are not named stay as they are."""
        view = await (await self.hub()).registry.tag(model, tags)
        return ModelTags(model=view.model, tags=view.tags)

    @tool(title="Delete or restore a model", destructive=True, idempotent=True)
    async def model_delete(
        self,
        model: Annotated[
            str,
            Field(
                description="name:version for that version, name for all its versions, name@alias "
                "for the alias alone"
            ),
        ],
        force: Annotated[
            bool, Field(description="Also remove the aliases that point at what is deleted")
        ] = False,
        restore: Annotated[bool, Field(description="Bring deleted versions back instead")] = False,
    ) -> Deleted:
        """Delete model versions softly, or only an alias; restore=true brings versions back.

        Refused with `conflict` while aliases point at a version, unless force=true. Version
        numbers are never used again.
        """
        return await (await self.hub()).registry.delete(model, force=force, restore=restore)


async def _approval(
    ctx: Context[Any], judged: "Judged", alias: str, reason: str
) -> Approval | None:
    """What the user says to this promotion; None where nobody could be asked."""
    view, previous, _ = judged
    model = f"{view.name}:{view.version}"
    instead = f" in place of version {previous}" if previous not in (None, view.version) else ""
    metrics = ", ".join(
        f"{key} {value:.4g}" for key, value in sorted(view.metrics.items())[:_METRICS_SHOWN]
    )
    lines = [f"Promote {model} to {alias}{instead}?", metrics, f"Reason: {reason}" * bool(reason)]
    answer = await ask(
        ctx, f"approve {model} as {alias}", "\n".join(filter(None, lines)), _APPROVAL_SCHEMA
    )
    if answer is None:
        return None
    content = answer.content or {}
    given = answer.action == "accept" and content.get("approve") is True
    comment = str(content.get("comment") or "")[:_COMMENT_KEPT]
    return Approval(view.version, given, comment)


def _cut(view: ModelView, limit: int = _INPUTS_SHOWN) -> ModelView:
    """The view with at most `limit` inputs: there are models of thousands of columns."""
    inputs = view.signature.inputs
    if len(inputs) <= limit:
        return view
    signature = view.signature.model_copy(update={"inputs": inputs[:limit]})
    omitted = len(inputs) - limit
    return view.model_copy(update={"signature": signature, "omitted_inputs": omitted})
