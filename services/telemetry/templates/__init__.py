"""What texts say, what means the same, and what follows what."""
