"""The values that a person may type next, for prompts and resource templates."""

from collections.abc import Mapping, Sequence

from mcp_hub.adapters.errors import NotFound
from mcp_hub.services.hub import Hub

_JOBS_SEEN = 200
_USUAL_ALIASES = ("champion", "challenger")


async def dataset_names(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    return await hub.data.names(typed)


async def model_names(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    return await hub.registry.names(typed)


async def model_versions(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    """The numbers of the versions of the model already given, newest first."""
    try:
        newest = (await hub.registry.get(given.get("name", ""))).version
    except NotFound:
        return []
    return [str(version) for version in range(newest, 0, -1)]


async def aliases(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    """The aliases of the model already given, and the usual ones."""
    name = given.get("model", "").partition("@")[0].partition(":")[0]
    page = await hub.registry.list(limit=1, name=name) if name else None
    existing = page.items[0].aliases if page and page.items else {}
    return list(dict.fromkeys([*existing, *_USUAL_ALIASES]))


async def job_ids(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    """The ids of the newest jobs."""
    page = await hub.training.list(limit=_JOBS_SEEN)
    return [job.job_id for job in page.items]


async def job_types(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    """What the frameworks train."""
    frameworks = await hub.training.frameworks()
    return sorted({kind for framework in frameworks.items for kind in framework.types})


async def frameworks(hub: Hub, typed: str, given: Mapping[str, str]) -> Sequence[str]:
    return [framework.name for framework in (await hub.training.frameworks()).items]
