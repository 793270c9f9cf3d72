"""The values that a person may type next, for prompts and resource templates."""

from collections.abc import Mapping, Sequence

from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.hub import Hub

_SEEN = 200
_USUAL_ALIASES = ("champion", "challenger")


async def dataset_names(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    return await hub.data.names(typed)


async def model_names(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    return await hub.registry.names(typed)


async def model_versions(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    """The numbers of the versions of the model already given, newest first."""
    try:
        newest = (await hub.registry.get(given.get("name", ""))).version
    except (InvalidArgument, NotFound):
        return []
    return [str(version) for version in range(newest, 0, -1)]


async def aliases(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    """The aliases of the model already given, and the usual ones."""
    name = given.get("model", "").partition("@")[0].partition(":")[0]
    models = (await hub.registry.list(limit=_SEEN, name=name)).items if name else []
    existing = [alias for model in models if model.name == name for alias in model.aliases]
    return list(dict.fromkeys([*existing, *_USUAL_ALIASES]))


async def alert_names(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    return await hub.telemetry.alerts.names(typed)


async def container_names(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    return await (await hub.containers()).showing.names(typed)


async def job_ids(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    """The ids of the newest jobs."""
    page = await hub.training.list(limit=_SEEN)
    return [job.job_id for job in page.items]


async def job_types(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    """What the frameworks train."""
    frameworks = await hub.training.frameworks()
    return sorted({kind for framework in frameworks.items for kind in framework.types})


async def telemetry_services(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    return await hub.telemetry.fields.services(typed)


async def trace_ids(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    """The traces of the newest spans."""
    return await hub.telemetry.traces.newest(typed)


async def frameworks(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    return [framework.name for framework in (await hub.training.frameworks()).items]
