"""Predictions of registered models."""

from typing import Annotated, Any

from pydantic import Field

from mcp_hub.services.inference.views import Prediction
from mcp_hub.tools.toolset import Toolset, tool


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
