"""What trains: XLA or not, one device or several, one process or several."""

import contextlib
import os
import sys
import traceback

import keras


def jit_compile(value="auto"):
    """Return what `compile(jit_compile=...)` takes: "true", "false" or "auto" as the flag defines it."""
    if value != "auto":
        return value == "true"
    if keras.backend.backend() != "tensorflow":
        return "auto"
    import tensorflow as tf

    return "auto" if tf.config.list_physical_devices("GPU") else False


def distribute(how):
    """Make Keras train on several devices.

    Args:
        how: one of `DISTRIBUTIONS`.

    Returns:
        `(scope, replicas)`: the scope to build and compile a model in, and the devices of this process
        that share a batch.

    Raises:
        ValueError: the backend has no such distribution.
    """
    backend = {"mirrored": "tensorflow", "data_parallel": "jax"}.get(how, keras.backend.backend())
    if backend != keras.backend.backend():
        raise ValueError(
            f"--distribution={how} needs the {backend} backend (KERAS_BACKEND={backend}). "
            f"Received: {keras.backend.backend()}"
        )
    if how == "mirrored":
        import tensorflow as tf

        strategy = tf.distribute.MirroredStrategy()
        return strategy.scope(), strategy.num_replicas_in_sync
    if how == "data_parallel":
        if "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ:
            keras.distribution.initialize()
        # `data.load` gives each process its share; Keras cannot where batches are mapped.
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
        return contextlib.nullcontext(), len(keras.distribution.list_devices()) // processes()[0]
    return contextlib.nullcontext(), 1


def processes():
    """Return how many processes train together, and the number of this one; 0 is the chief."""
    if keras.backend.backend() != "jax":
        return 1, 0
    import jax

    return jax.process_count(), jax.process_index()


def from_chief(content, many, process):
    """Return the chief's bytes to every process; all must call it.

    Args:
        content: bytes, those of the others do not matter.
        many: int, processes.
        process: int, number of this one.
    """
    if many == 1:
        return content
    import numpy as np
    from jax.experimental import multihost_utils

    def send(array):
        return np.asarray(multihost_utils.broadcast_one_to_all(array, process == 0))

    length = int(send(np.int32(len(content))))
    array = np.zeros(length, np.uint8)
    if process == 0:
        array[:] = np.frombuffer(content, np.uint8)
    return send(array).tobytes()


@contextlib.contextmanager
def together(many, process):
    """Run a block that several processes run together: where one of them fails, all end soon.

    The others meet an error of the collective operation that they wait in. It is printed, with what it
    most likely means; the exit handlers of JAX are not run, as they would wait for the lost process.

    Args:
        many: int, processes.
        process: int, number of this one.
    """
    try:
        yield
    except SystemExit as e:  # told to end
        if many == 1:
            raise
        os._exit(e.code)
    except Exception:
        if many == 1:
            raise
        traceback.print_exc()
        print(
            f"Process {process} of {many} stops: it failed, or lost one of the others (see there). "
            "Start all of them again.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)
