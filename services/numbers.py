"""Numbers as JSON brings them."""

import math


def is_finite(number: float) -> bool:
    """Whether a float can hold the number: a whole one may be larger than every float."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
