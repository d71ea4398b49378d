"""Two devices of one machine: they measure together, prune at the same epoch, and stay equal.

Each case is a process of its own: devices are configured before anything runs, and TensorFlow's
collectives do not take a second strategy in one process.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).parent
SCRIPT = """
import contextlib, json, sys
import keras, numpy as np
from keras import layers
from toys import compiled, images
from adprune_keras import ADPrune

(how,) = sys.argv[1:]
scope = contextlib.nullcontext()
if how == "mirrored":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()
elif how == "data_parallel":
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    assert len(keras.distribution.list_devices()) == 2

keras.utils.set_random_seed(0)
with scope:
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(12, 3, activation="relu", name="conv1")(inputs)
    y = layers.Conv2D(9, 3, padding="same", activation="relu", name="conv2")(x)
    z = layers.GlobalAveragePooling2D()(layers.Concatenate()([x, y]))
    model = compiled(keras.Model(inputs, layers.Dense(4, activation="softmax")(z)))
x, y = images(128)
prune = ADPrune(prune_at=[2, 4], seed=1, verbose=0)
history = model.fit(x, y, batch_size=32, epochs=6, shuffle=False, verbose=0, callbacks=[prune])
same = True
for variable in model.variables:
    value = getattr(variable, "value", variable)
    if how == "mirrored":
        copies = [v.numpy() for v in value.values]
    elif how == "data_parallel":
        copies = [np.asarray(shard.data) for shard in value.addressable_shards]
    else:
        continue
    same &= len(copies) == 2 and all(np.array_equal(c, copies[0]) for c in copies)
print(json.dumps({
    "same": bool(same),
    "widths": [net["widths"] for net in prune.record],
    "density": history.history["activation_density"],
    "channels": [net["channel_densities"] for net in prune.record],
    "loss": history.history["loss"],
}))
"""


def start(backend, how):
    env = os.environ | {
        "KERAS_BACKEND": backend,
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2" if how == "data_parallel" else "",
        "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
    }
    command = [sys.executable, "-c", SCRIPT, how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


@pytest.mark.parametrize(("backend", "how"), [("tensorflow", "mirrored"), ("jax", "data_parallel")])
def test_two_devices_do_what_one_does(backend, how):
    pytest.importorskip(backend)
    processes, found = [start(backend, "one"), start(backend, how)], []
    try:
        for process in processes:
            out, err = process.communicate(timeout=600)
            assert process.returncode == 0, err[-3000:]
            found.append(json.loads(out.splitlines()[-1]))
    finally:
        for process in processes:
            process.kill()
    one, two = found
    assert two["same"]
    assert len(two["widths"]) == 3
    assert two["widths"][-1]["conv1"] < two["widths"][1]["conv1"] < 12
    # Gradients are added in another order, so that in time an activation near zero turns up or down.
    assert two["widths"][1] == one["widths"][1]
    assert two["density"][0] == pytest.approx(one["density"][0], abs=1e-4)
    assert two["density"][:4] == pytest.approx(one["density"][:4], abs=2e-3)
    for name, density in one["channels"][0].items():
        assert two["channels"][0][name] == pytest.approx(density, abs=1e-2)
    assert two["loss"][:4] == pytest.approx(one["loss"][:4], rel=1e-3)
