"""What the tools that use a model on a whole data set take alike."""

from typing import Annotated

from pydantic import Field

Features = Annotated[
    list[str] | None,
    Field(description="For a model of one tensor input: the columns that make it, in order"),
]
WaitS = Annotated[
    float, Field(description="Wait up to so many seconds for the result (0 to 50)", ge=0, le=50)
]
