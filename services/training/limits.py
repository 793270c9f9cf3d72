"""What an attempt may use: what its job asks for, within what the worker's settings allow."""

from dataclasses import dataclass

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded
from mcp_hub.services.training.frameworks.base import NOWHERE, Place
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.views import JobLimits

MAX_GPUS = 1024
_MIN_MEMORY_MB = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What attempts may use here; None is no limit."""

    log_bytes: int
    disk_mb: int | None = None
    memory_mb: int | None = None
    """Of an attempt whose job asks for none, and the most where `max_memory_mb` says nothing."""
    max_memory_mb: int | None = None
    cpus: int | None = None
    """Of an attempt whose job asks for none, and the most where `max_cpus` says nothing."""
    max_cpus: int | None = None
    place: Place = NOWHERE

    @property
    def most_memory_mb(self) -> int | None:
        return self.memory_mb if self.max_memory_mb is None else self.max_memory_mb

    @property
    def most_cpus(self) -> int | None:
        return self.cpus if self.max_cpus is None else self.max_cpus

    def memory_of(self, job: Job) -> int | None:
        """The memory an attempt of `job` may take, in MB."""
        return _within(job.memory_mb or self.memory_mb, self.most_memory_mb)

    def cpus_of(self, job: Job) -> int | None:
        """The cores an attempt of `job` may use."""
        return _within(job.cpus or self.cpus, self.most_cpus)


def data_limit_mb(memory_mb: int | None) -> int | None:
    """The private memory that one process may map, for an attempt that may hold `memory_mb`.

    More than that, as what is mapped is not all used, the stacks of threads above all: it stops a
    process that allocates faster than it is watched.
    """
    return None if memory_mb is None else memory_mb + max(256, memory_mb // 4)


def check_limits(limits: JobLimits, allowed: Limits) -> None:
    """Raise InvalidArgument for what is no limit, LimitExceeded for one over what is allowed."""
    for name, value, least, most in (
        ("cpus", limits.cpus, 1, allowed.most_cpus),
        ("memory_mb", limits.memory_mb, _MIN_MEMORY_MB, allowed.most_memory_mb),
        ("gpus", limits.gpus, 0, MAX_GPUS),
    ):
        if value is None:
            continue
        if value < least:
            raise InvalidArgument(f"limits.{name} is {value}; it must be at least {least}.")
        if most is not None and value > most:
            raise LimitExceeded(
                f"limits.{name} is {value}; at most {most} is allowed here.",
                f"Ask for less, or have training.max_{name} raised.",
            )


def _within(value: int | None, most: int | None) -> int | None:
    if value is None or most is None:
        return most if value is None else value
    return min(value, most)
