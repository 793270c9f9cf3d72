"""The hub's telemetry of itself, and its metrics."""
