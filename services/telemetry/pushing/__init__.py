"""The hub's own metrics and log, sent to where the settings say."""
