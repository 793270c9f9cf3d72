"""Predictions of registered models."""

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from mcp_hub.services.inference.views import Prediction
from mcp_hub.services.scoring.views import BatchPrediction
from mcp_hub.services.views import Name
from mcp_hub.tools.scoring import Features, WaitS
from mcp_hub.tools.toolset import Toolset, caller, tool
from mcp_hub.tools.training import reporter


class InferenceTools(Toolset):
    """The toolset `inference`."""

    name = "inference"

    @tool(title="Predict", read_only=True)
    async def predict(
        self,
        model: Annotated[
            str, Field(description="name (its newest version), name@alias or name:version")
        ],
        inputs: Annotated[
            list[dict[str, Any]],
            Field(description="Rows, each {column: value} with every column; at most 10,000"),
        ],
        probabilities: Annotated[
            bool, Field(description="false leaves them out, so that more rows fit an answer")
        ] = True,
    ) -> Prediction:
        """Predict with a registered model, a prediction for each row in their order.

        model_get tells the columns (signature.inputs) and their kinds; null stands for a missing
        value where a column is nullable. Classifiers add the probability of each class.
        """
        return await (await self.hub()).inference.predict(
            model, inputs, probabilities=probabilities
        )

    @tool(title="Predict a data set", idempotent=True)
    async def predict_batch(
        self,
        ctx: Context[Any],
        model: Annotated[
            str, Field(description="name (its newest version), name@alias or name:version")
        ],
        dataset: Annotated[
            str, Field(description="A registered data set with the model's columns")
        ],
        name: Annotated[
            Name | None, Field(description="The data set to make; by default DATASET-predictions")
        ] = None,
        keep: Annotated[
            list[str] | None,
            Field(description="Columns to carry over, such as keys; all if left out"),
        ] = None,
        probabilities: Annotated[
            bool, Field(description="Also a column for each class's probability")
        ] = True,
        features: Features = None,
        idempotency_key: Annotated[
            str | None,
            Field(description="Repeat safely; the same arguments do as well", max_length=128),
        ] = None,
        wait_s: WaitS = 0,
    ) -> BatchPrediction:
        """Predict every row of a data set into a new data set: kept columns, `prediction`,
        `probability_CLASS`.

        Runs as a job. Without wait_s it answers at once: call again with the same arguments and
        wait_s=50 for `result`, then dataset_preview. training_cancel(job_id) stops it.
        """
        scoring = (await self.hub()).scoring
        return await scoring.predict(
            model,
            dataset,
            name=name,
            keep=keep,
            probabilities=probabilities,
            features=features,
            idempotency_key=idempotency_key,
            wait_s=wait_s,
            follow=reporter(ctx),
            asked_by=caller(ctx),
        )
