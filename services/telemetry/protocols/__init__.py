"""The telemetry protocols that others speak, each from its messages to records."""
