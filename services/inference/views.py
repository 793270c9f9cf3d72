"""What the inference tools return."""

from typing import Any

from pydantic import Field

from mcp_hub.services.registry.views import Scalar
from mcp_hub.services.views import View


class Prediction(View):
    """Predictions in the order of the inputs; classifiers add a probability per class.

    What a model gives that is not finite is null.
    """

    model: str = Field(description="name:version that answered")
    predictions: list[Scalar | list[Any] | None]
    probabilities: list[dict[str, float | None]] | None = None
    scores: list[Any] | None = Field(
        default=None,
        description="A row each: of clusters the distance to each, of anomalies how anomalous "
        "(above 0 is flagged)",
    )
