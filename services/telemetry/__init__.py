"""Telemetry: one envelope for events, metrics, spans and logs, and the questions asked of them."""
