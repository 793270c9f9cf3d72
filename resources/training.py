"""Training jobs to read, and the prompts that start and explain them."""

from typing import Annotated

from mcp.types import PromptMessage, Resource
from pydantic import Field

from mcp_hub.resources.base import NEWEST, ResourceSet, listed, prompt, resource, say, show
from mcp_hub.resources.completions import dataset_names, job_ids, job_types
from mcp_hub.services.training.views import JobLogs, JobView


class TrainingResources(ResourceSet):
    name = "training"

    @resource("training://jobs/{job_id}", title="Training job", complete={"job_id": job_ids})
    async def job(self, job_id: str) -> JobView:
        """A job as it stands: status, progress, newest metrics, model or error. Subscribable."""
        return await (await self.hub()).training.status(job_id)

    @resource(
        "training://jobs/{job_id}/logs", title="Training job's log", complete={"job_id": job_ids}
    )
    async def logs(self, job_id: str) -> JobLogs:
        """The last lines that a job's attempts wrote. Subscribable."""
        return await (await self.hub()).training.logs(job_id)

    async def newest(self) -> list[Resource]:
        page = await (await self.hub()).training.list(limit=NEWEST)
        return [
            listed(
                f"training://jobs/{job.job_id}",
                f"Job {job.name} ({job.status})",
                f"{job.framework} job, submitted {job.created_at}.",
            )
            for job in page.items
        ]

    @prompt(title="Train a model", complete={"dataset": dataset_names, "type": job_types})
    async def train_model(
        self,
        dataset: Annotated[str, Field(description="A registered data set, or a file to register")],
        target: Annotated[str, Field(description="The column to predict")],
        type: Annotated[str, Field(description="classification or regression")] = "",
        goal: Annotated[str, Field(description="What is good enough, such as accuracy 0.9")] = "",
    ) -> list[PromptMessage]:
        """Train a model on a data set, look at the result, and promote it if it is good enough."""
        job_type = f"type {type}" if type else "the type that the profile suggests"
        bar = f"The goal: {goal}." if goal else "Ask me what score is good enough before promoting."
        return [
            say(
                f"Train a model that predicts {target!r} from the data set {dataset!r}.\n"
                f"1. If it is not registered (dataset_list), register it with dataset_register.\n"
                f"2. dataset_profile(dataset, target={target!r}): tell me of leakage, imbalance "
                "and missing values, and what you would do about them, before you train.\n"
                f"3. training_submit with {job_type}; defaults are sound.\n"
                "4. training_status(job_id, wait_s=50) until it ends; on failure read "
                "training_logs and explain.\n"
                "5. model_get the model it names, and report its metrics beside what always "
                "guessing the commonest answer would score.\n"
                f"6. {bar} If it is reached, model_promote to champion with the gate min_metric, "
                "and same_signature and better_than_current if there is a champion."
            )
        ]

    @prompt(title="Diagnose a job", read_only=True, complete={"job_id": job_ids})
    async def diagnose_job(
        self, job_id: Annotated[str, Field(description="The job, job_…")]
    ) -> list[PromptMessage]:
        """Explain why a training job failed, hangs or scores badly, from its status and log."""
        hub = await self.hub()
        return [
            show(f"training://jobs/{job_id}", await hub.training.status(job_id)),
            show(f"training://jobs/{job_id}/logs", await hub.training.logs(job_id)),
            say(
                f"Above are the training job {job_id} and the end of its log. Say in a few "
                "sentences what happened and why, quoting the lines that show it. If it failed, "
                "cause and hint are the hub's guess: check it against the log, then name the "
                "change that would make it succeed (data, target, config, timeout_s, limits). If "
                "it succeeded, judge its metrics against a trivial model's. Use training_metrics, "
                "training_logs and dataset_profile where you need more."
            ),
        ]
