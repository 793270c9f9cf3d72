"""Which instance answers a call, and which are missing or too many: decided from rows alone."""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mcp_hub.adapters.containers.port import Container
from mcp_hub.services.containers.instances.rows import Deployment, Instance
from mcp_hub.services.containers.specs import ContainerSpec


@dataclass(frozen=True, slots=True)
class Use:
    """Ask it; if it is starting, once it is ready."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Its holder is dead: take it over first."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Claim:
    """There is none yet: make one, or take one that waits for a session."""


def select(
    deployment: Deployment,
    spec: ContainerSpec,
    instances: Iterable[Instance],
    *,
    session: str | None,
    here: str | None,
    calls: Mapping[str, int],
) -> Use | TakeOver | Claim:
    """What a call of `session` is to do, in the process that is the holder `here`.

    `calls` is how many calls this process has under way at each instance: of several that are
    shared, the least busy is asked, and of those that are equally busy one at random, but rather
    one that this process holds.
    """
    usable = [one for one in instances if is_current(deployment, one) and one.state != "stopping"]
    if spec.state == "per_session":
        usable = [one for one in usable if session is not None and one.session == session]
    else:
        usable = [one for one in usable if one.session is None]
    held = [one for one in usable if one.holder is not None]
    ready = [one for one in held if one.state == "ready"]
    if among := ready or held:

        def burden(one: Instance) -> tuple[int, bool, float]:
            elsewhere = one.holder is None or one.holder.id != here
            return calls.get(one.id, 0), elsewhere, random.random()

        return Use(min(among, key=burden))
    if usable:
        return TakeOver(min(usable, key=lambda one: one.state != "ready"))
    return Claim()


def is_current(deployment: Deployment | None, instance: Instance) -> bool:
    """Whether it is of what is in force, and may go on."""
    return (
        deployment is not None
        and deployment.enabled
        and deployment.revision == instance.revision
        and deployment.created_at <= instance.created_at
    )


def slots_of(spec: ContainerSpec) -> int:
    """How many instances are kept, used or not."""
    return 0 if spec.strategy == "on_demand" else spec.replicas


def is_kept(spec: ContainerSpec, instance: Instance) -> bool:
    """Whether it stays however long nobody uses it."""
    return instance.slot is not None and instance.slot < slots_of(spec)


def missing(deployment: Deployment, spec: ContainerSpec, instances: Iterable[Instance]) -> int:
    """How many of those that are kept are to be started now."""
    if not deployment.enabled or deployment.wait_s > 0:
        return 0
    places = {
        one.slot
        for one in instances
        if one.name == deployment.name
        and one.revision == deployment.revision
        and one.slot is not None
    }
    return sum(slot not in places for slot in range(slots_of(spec)))


def abandoned(instances: Iterable[Instance]) -> list[Instance]:
    """Those that nobody holds who is alive."""
    return [one for one in instances if one.holder is None]


def orphans(containers: Sequence[Container], ids: Collection[str], label: str) -> list[Container]:
    """The containers that no instance has; `label` is the one that names the instance.

    The containers must have been listed before the instances were: a container that is listed had
    a row then, and has it still or is removed.
    """
    return [one for one in containers if one.labels.get(label) not in ids]
