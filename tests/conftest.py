import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow 2.21's oneDNN kernels write past their memory on some processors where nets are as narrow
# and batches as small as here.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras
import pytest


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(0)
