"""The where-language: which records a question is about."""
