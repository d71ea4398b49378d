"""The state of all global sources of random numbers."""

import random

import keras
import numpy as np

from adprune_keras.live.loop import global_seeds, set_global_seeds


def random_state():
    """State of all global sources of random numbers, as plain data and arrays."""
    kind, keys, *rest = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": [kind, keys, *rest],
        "keras": global_seeds(),
    }
    if keras.backend.backend() == "torch":
        import torch

        state["torch"] = torch.get_rng_state().numpy()
    return state


def set_random_state(state):
    """Put back what `random_state` returned."""
    set_global_seeds(state["keras"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(state["numpy"]))
    if "torch" in state:
        import torch

        torch.set_rng_state(torch.from_numpy(state["torch"].copy()))
