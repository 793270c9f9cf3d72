"""What comes in: from what a sender says to rows that are committed."""
