"""When to prune, how much, which channels, and what is carried over; and the callback."""
