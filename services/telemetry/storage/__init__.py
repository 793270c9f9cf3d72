"""What is kept in columns, for how long, and who sees to it."""
