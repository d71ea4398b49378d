"""One run of `adprune-train`."""
