"""What deviates, and what else changed around an instant."""
