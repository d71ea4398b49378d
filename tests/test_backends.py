"""TensorFlow, JAX and PyTorch do the same: equal densities, equal widths, the same tests.

Each backend needs a process of its own. Those that are not installed are skipped.
"""

import contextlib
import importlib.util
import io
import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest

TESTS = pathlib.Path(__file__).parent
BACKENDS = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
OTHERS = [name for name in BACKENDS if name != keras.backend.backend()]
CORE = ("test_density.py", "test_groups.py", "test_rebuild.py", "test_swap.py", "test_graph_mode.py")

MEASURE = """
import json
import keras, numpy as np
from adprune_keras import WidthRule, activation_density, models
from adprune_keras.prune.widths import next_widths

rng = np.random.default_rng(0)
model = models.ResNet18(input_shape=(16, 16, 3), classes=4, widths=[6] * 17)
for variable in model.variables:  # positive, as variances must be; kernels with both signs
    value = rng.uniform(0.5, 1.5, variable.shape)
    variable.assign(value - 1 if "kernel" in variable.path else value)
densities = activation_density(model, rng.normal(size=(40, 16, 16, 3)).astype("float32"))
means = {name: float(np.mean(d)) for name, d in densities.items()}
widths = next_widths(dict.fromkeys(means, 60), means, WidthRule())
print(json.dumps({"densities": {k: v.tolist() for k, v in densities.items()}, "widths": widths}))
"""

TRAIN = """
import sys
sys.modules["tensorflow"] = None  # as where it is not installed
from toys import compiled, graph_mode, images, plain_cnn
from adprune_keras import ADPrune

prune = ADPrune(schedule=[1], verbose=0)
compiled(plain_cnn(), **graph_mode()).fit(*images(8), epochs=2, verbose=0, callbacks=[prune])
assert len(prune.record) == 2
"""

# What the host reads of the model between the first and the last step of an epoch. JAX' own guard
# watches GPUs and TPUs only, so reads are counted here as well.
READS = """
import jax, keras
from toys import compiled, graph_mode, images, plain_cnn
from adprune_keras import ADPrune

reads, steps, within = [], [], False
array = type(jax.numpy.ones(1))
value = array._value.fget
array._value = property(lambda self: (reads.append(self.shape) if within else None, value(self))[1])


class Watch(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        global within
        within = True
        steps.append(batch)

    def on_train_batch_end(self, batch, logs=None):
        global within
        within = batch < 3


model = compiled(plain_cnn(), **graph_mode())
prune = ADPrune(schedule=[1], verbose=0)
model.fit(*images(16), batch_size=4, epochs=2, verbose=0, callbacks=[prune, Watch()])
assert len(prune.record) == 2 and steps == [0, 1, 2, 3] * 2
assert not reads, reads
within = True
float(jax.numpy.ones(3)[0])
assert reads, "a read that is made on purpose must show"
"""


def run(backend, *arguments):
    """Run Python on a backend, in the folder of the tests; return what it prints."""
    env = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *arguments], env=env, cwd=TESTS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_all_backends_measure_the_same():
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(MEASURE, {})
    printed = [here.getvalue(), *(run(backend, "-c", MEASURE) for backend in OTHERS)]
    first, *others = [json.loads(text.splitlines()[-1]) for text in printed]
    assert len({round(d, 2) for layer in first["densities"].values() for d in layer}) > 10
    for other in others:
        assert other["widths"] == first["widths"]
        for name, density in first["densities"].items():
            assert other["densities"][name] == pytest.approx(density, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "tensorflow"])
def test_other_backends_do_without_tensorflow(backend):
    run(backend, "-c", TRAIN)


@pytest.mark.slow
@pytest.mark.skipif("jax" not in BACKENDS, reason="needs JAX")
def test_nothing_is_read_from_the_device_within_an_epoch():
    run("jax", "-c", READS)


@pytest.mark.slow
@pytest.mark.parametrize("backend", OTHERS)
def test_same_tests_pass_on_the_other_backends(backend):
    run(backend, "-m", "pytest", "-q", "-x", *CORE)
