"""Flagfiles of the paper's studies and the quick start; `--flagfile=NAME` finds them."""
