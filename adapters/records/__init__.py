"""Telemetry records in the database: what SQLite and PostgreSQL do each in their own way."""
