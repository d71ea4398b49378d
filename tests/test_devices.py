"""Two devices of one machine: they measure together, prune at the same epoch, and stay equal.

Each case is a process of its own: devices are configured before anything runs, and TensorFlow's
collectives do not take a second strategy in one process.
"""

import functools
import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).parent
SCRIPT = """
import contextlib, hashlib, json, os, signal, sys
import keras, numpy as np
from keras import layers
from toys import compiled, images
from adprune_keras import ADPrune
from adprune_keras.live.devices import together

how, process, port, directory, fault = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
many, scope = 1, contextlib.nullcontext()
if how == "mirrored":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()
elif how == "data_parallel":
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    assert len(keras.distribution.list_devices()) == 2
elif how == "processes":
    many = 2
    keras.distribution.initialize(f"127.0.0.1:{port}", many, process)
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))

keras.utils.set_random_seed(0)
with scope:
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(12, 3, activation="relu", name="conv1")(inputs)
    y = layers.Conv2D(9, 3, padding="same", activation="relu", name="conv2")(x)
    z = layers.GlobalAveragePooling2D()(layers.Concatenate()([x, y]))
    model = compiled(
        keras.Model(inputs, layers.Dense(4, activation="softmax")(z)),
        jit_compile="auto" if keras.backend.backend() == "jax" else False,
    )
x, y = images(128)
# The directory is the chief's alone.
backup = {"backup_dir": f"{directory}/{process}", "save_freq": 3} if directory else {}
prune = ADPrune(schedule=[2, 4], sample_places=None, seed=1, verbose=0, **backup)

class Fault(keras.callbacks.Callback):
    began = 9

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if fault == "terminated" and (self.epoch, batch) == (2, 1 + process):
            os.kill(os.getpid(), signal.SIGTERM)

    def on_epoch_end(self, epoch, logs=None):
        self.began = min(self.began, epoch)
        if fault == "killed" and epoch == 2 and process == many - 1:
            os.kill(os.getpid(), signal.SIGKILL)

watch = Fault()
with together(many, process):
    history = model.fit(
        x[process::many], y[process::many], batch_size=32 // many, epochs=6, shuffle=False, verbose=0,
        callbacks=[prune, watch],
    )
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
    "began": watch.began,
    "same": bool(same),
    "weights": hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest(),
    "widths": [net["widths"] for net in prune.record],
    "density": history.history["activation_density"],
    "channels": [net["channel_densities"] for net in prune.record],
    "loss": history.history["loss"],
}))
"""


def start(backend, how, process=0, port=0, directory="", fault=""):
    env = os.environ | {
        "KERAS_BACKEND": backend,
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2" if how == "data_parallel" else "",
        "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
    }
    arguments = [how, str(process), str(port), str(directory), fault]
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def start_two(directory="", fault=""):
    port = free_port()
    return [start("jax", "processes", i, port, directory, fault) for i in range(2)]


def finish(processes):
    """Return `(exit code, stdout, stderr)` of each; none outlives this."""
    try:
        ended = [(p, *p.communicate(timeout=600)) for p in processes]
        return [(p.returncode, out, error) for p, out, error in ended]
    finally:
        for process in processes:
            process.kill()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def results(processes):
    found = finish(processes)
    assert [code for code, _, _ in found] == [0] * len(found), found[0][2][-3000:]
    return [json.loads(out.splitlines()[-1]) for _, out, _ in found]


@functools.cache
def undisturbed(backend, how="one"):
    """The results of a run without a fault, made once."""
    return results(start_two() if how == "processes" else [start(backend, how)])


def agree(one, two):
    assert len(two["widths"]) == 3
    assert two["widths"][-1]["conv1"] < two["widths"][1]["conv1"] < 12
    # Gradients are added in another order, so that in time an activation near zero turns up or down.
    assert two["widths"][1] == one["widths"][1]
    assert two["density"][0] == pytest.approx(one["density"][0], abs=1e-4)
    assert two["density"][:4] == pytest.approx(one["density"][:4], abs=2e-3)
    for name, density in one["channels"][0].items():
        assert two["channels"][0][name] == pytest.approx(density, abs=1e-2)
    assert two["loss"][:4] == pytest.approx(one["loss"][:4], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "how"),
    [("tensorflow", "mirrored"), ("jax", "data_parallel")],
)
def test_two_devices_do_what_one_does(backend, how):
    pytest.importorskip(backend)
    (one,), (two,) = undisturbed(backend), undisturbed(backend, how)
    assert two["same"]
    agree(one, two)


@pytest.mark.slow
def test_two_processes_do_what_one_does():
    pytest.importorskip("jax")
    (one,), (first, second) = undisturbed("jax"), undisturbed("jax", "processes")
    assert first == second
    assert first["began"] == 0
    agree(one, first)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["killed", "terminated"])
def test_processes_started_again_go_on_from_the_chiefs_backup(tmp_path, fault):
    pytest.importorskip("jax")
    expected, _ = undisturbed("jax", "processes")
    (chief, _, error), (other, _, _) = finish(start_two(tmp_path, fault))
    if fault == "killed":
        assert (chief, other) == (1, -9)
        assert "Process 0 of 2 stops: it failed, or lost one of the others" in error
    else:
        assert chief == 143
    first, second = results(start_two(tmp_path))
    assert first == second == expected | {"began": first["began"]}
    assert first["began"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["0"]


@pytest.mark.slow
def test_mirrored_devices_go_on_from_within_an_epoch(tmp_path):
    (expected,) = undisturbed("tensorflow", "mirrored")
    ((code, _, _),) = finish([start("tensorflow", "mirrored", 0, 0, tmp_path, "terminated")])
    assert code == 143
    (found,) = results([start("tensorflow", "mirrored", 0, 0, tmp_path)])
    assert found == expected | {"began": 2}
    assert found["same"]
