"""Counts, sums and percentiles by groups and buckets of time."""
