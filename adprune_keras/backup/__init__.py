"""A `fit` that can go on."""
