"""Words that say how a model is trained. Imports nothing, so that flags can name them."""

DISTRIBUTIONS = ("none", "mirrored", "data_parallel")
