"""Models to read, and the prompt that promotes one."""

from typing import Annotated

from mcp.types import PromptMessage, Resource
from pydantic import Field

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.resources.base import NEWEST, ResourceSet, listed, prompt, resource, say, show
from mcp_hub.resources.completions import aliases, model_names, model_versions
from mcp_hub.services.registry.views import ModelView


class RegistryResources(ResourceSet):
    name = "registry"

    @resource("models://{name}", title="Model", complete={"name": model_names})
    async def model(self, name: str) -> ModelView:
        """A model's newest version: signature, metrics, aliases, origin. Subscribable."""
        return await (await self.hub()).registry.get(name)

    @resource(
        "models://{name}/versions/{version}",
        title="Model version",
        complete={"name": model_names, "version": model_versions},
    )
    async def version(self, name: str, version: str) -> ModelView:
        """One version of a model. Subscribable."""
        if not version.isdecimal():
            raise InvalidArgument(
                f"{version!r} is no version number.", f"Read models://{name} for the newest."
            )
        return await (await self.hub()).registry.get(f"{name}:{version}")

    async def newest(self) -> list[Resource]:
        page = await (await self.hub()).registry.list(limit=NEWEST)
        return [
            listed(
                f"models://{model.name}",
                f"Model {model.name}",
                f"Newest version {model.version}, {model.versions} in all.",
            )
            for model in page.items
        ]

    @prompt(title="Promote a model", complete={"model": model_names, "alias": aliases})
    async def promote_model(
        self,
        model: Annotated[str, Field(description="name, name@alias or name:version")],
        alias: Annotated[str, Field(description="The alias to move")] = "champion",
        metric: Annotated[str, Field(description="The metric that decides")] = "",
    ) -> list[PromptMessage]:
        """Decide whether a model version should take over an alias, and promote it with gates."""
        candidate = await (await self.hub()).registry.get(model)
        decides = metric or "the metric that matters most for its purpose"
        return [
            show(f"models://{candidate.name}/versions/{candidate.version}", candidate),
            say(
                f"Above is {candidate.model}, a candidate for the alias {alias!r}.\n"
                f"1. model_get({candidate.name}@{alias}) for what the alias points at now, if "
                "anything, and model_compare the two.\n"
                "2. model_lineage of the candidate: was it trained on the data you would expect?\n"
                f"3. Say whether it should be promoted, judged by {decides}, and wait for my "
                "word.\n"
                f"4. model_promote(model={candidate.model!r}, alias={alias!r}) with the gates "
                "min_metric and, if the alias exists, better_than_current and same_signature, "
                "and a reason that a colleague understands later. Report each gate."
            ),
        ]
