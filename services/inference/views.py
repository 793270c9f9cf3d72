"""What the inference tools return."""

from mcp_hub.services.registry.views import Scalar
from mcp_hub.services.views import View


class Prediction(View):
    """Predictions in the order of the inputs; classifiers add a probability per class."""

    model: str
    predictions: list[Scalar | list[float] | None]
    probabilities: list[dict[str, float]] | None = None
