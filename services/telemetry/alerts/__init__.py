"""Alert rules: kept as rows, evaluated by one process among all, and told to others."""
