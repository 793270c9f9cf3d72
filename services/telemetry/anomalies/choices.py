"""What callers choose among. Imports nothing heavy: the tools need it at start."""

from typing import Literal

Sensitivity = Literal["low", "normal", "high"]
Signal = Literal["rate", "errors", "p50", "p95", "mean", "leak", "silence", "new", "joint"]
