"""Jobs that other programs put into the queue: taken on as the hub's own, and answered.

Such a message means: see to this job, and answer when it has ended. It is answered by whichever
worker gets it last; who ran the job, under which message, does not matter.
"""

import logging
from dataclasses import replace

from sqlalchemy import Connection, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import jobs as table
from mcp_hub.adapters.errors import HubError, Internal, InvalidArgument, Unavailable
from mcp_hub.adapters.queue.port import Claim, SharedQueue
from mcp_hub.services.training import jobs
from mcp_hub.services.training.frameworks.registry import FrameworkUnavailable
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.orders import submission_of
from mcp_hub.services.training.reports import model_reference
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.states import TERMINAL
from mcp_hub.services.training.submission import Submission

logger = logging.getLogger(__name__)

SUBMITTED_BY = "bullmq"
_LOOK_AGAIN_MOST_S = 10.0


class Adoption:
    """Starts the jobs that messages ask for, their own ones and those of other programs."""

    def __init__(self, training: TrainingService, database: Database, queue: SharedQueue) -> None:
        self._training = training
        self._database = database
        self._queue = queue

    async def start(
        self, claim: Claim, worker_id: str, lease_ms: int, free_gpus: int
    ) -> Job | None:
        """The attempt that `claim` leads to; None if there is none now, and it is settled.

        What can be no job is answered with the reason, so that it troubles no worker again; a
        hub's own that is in trouble is looked at again later.
        """
        reason: HubError
        try:
            return await self._begin(claim, worker_id, lease_ms, free_gpus)
        except FrameworkUnavailable as error:
            reason = error
        except Unavailable:
            raise
        except HubError as error:
            reason = error
        except Exception:
            logger.exception("The message %r cannot be taken on", claim.message_id)
            if not _is_foreign(claim):
                # It is the only one that its job has.
                await self._queue.retry(claim, delay_s=min(claim.delivery, _LOOK_AGAIN_MOST_S))
                return None
            reason = Internal("The hub failed to take this job on; its log says why.")
        await self._queue.fail(claim, f"{reason.message} {reason.hint or ''}".strip())
        return None

    async def settle(self, claim: Claim, job_id: str) -> None:
        """Answer for a job that has ended; give the message of one that has not back."""
        job = await self._find(job_id)
        if job is None:
            await self._queue.ack(claim)
        elif job.status == "succeeded":
            result = {"job_id": job.id, "status": job.status, "model": model_reference(job)}
            await self._queue.complete(claim, result)
        elif job.status in TERMINAL:
            reason = job.error["message"] if job.error else f"Job {job.id} is {job.status}."
            await self._queue.fail(claim, reason)
        else:
            await self._queue.retry(claim, delay_s=min(claim.delivery, _LOOK_AGAIN_MOST_S))

    async def _begin(
        self, claim: Claim, worker_id: str, lease_ms: int, free_gpus: int
    ) -> Job | None:
        job_id = claim.message_id
        job = await self._start(job_id, worker_id, lease_ms, free_gpus)
        if job is None and _is_foreign(claim) and await self._find(job_id) is None:
            job_id = await self._adopt(claim)
            job = await self._start(job_id, worker_id, lease_ms, free_gpus)
        if job is None:
            await self.settle(claim, job_id)
        return job

    async def _adopt(self, claim: Claim) -> str:
        """The job of another program's message: a new one, or the one that it was before."""
        submission = _submission(claim)
        job, _ = await self._training.record(submission, submitted_by=SUBMITTED_BY)
        job_id: str = job.id
        return job_id

    async def _start(
        self, job_id: str, worker_id: str, lease_ms: int, free_gpus: int
    ) -> Job | None:
        return await self._database.write(
            lambda c: jobs.start_attempt(c, job_id, worker_id, lease_ms, free_gpus=free_gpus)
        )

    async def _find(self, job_id: str) -> Job | None:
        def find(connection: Connection) -> Job | None:
            return connection.execute(select(table).where(table.c.id == job_id)).first()

        return await self._database.read(find)


def _is_foreign(claim: Claim) -> bool:
    """Whether a program that is no hub added the message: a hub's names its job."""
    return claim.payload is None or claim.payload.get("job_id") != claim.message_id


def _submission(claim: Claim) -> Submission:
    """The job that another program's message asks for, with a key that the message gives it.

    Raises:
        InvalidArgument: it asks for none; says what would be right.
    """
    if claim.payload is None:
        raise InvalidArgument(
            "The job's data are no object.", "Give the arguments of training_submit."
        )
    submission = submission_of(claim.payload)
    if submission.idempotency_key is not None:
        return submission
    return replace(submission, idempotency_key=f"bullmq:{claim.message_id}")
