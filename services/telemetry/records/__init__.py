"""Questions to single records: search, fields, traces, SQL."""
