"""Numbers per channel, from data."""
