"""Batches for `fit` and `evaluate`: shuffled, shared, augmented, scaled."""

import numpy as np

_CACHE_BYTES = 4 << 30


def training_batches(split, batch_size, mean, std, augment, seed, processes, replicas):
    """Return a function from a data set of epochs' numbers to all their batches, and batches an epoch.

    Each epoch is shuffled and augmented by the seed and its number, because state inside `tf.data` would
    be lost in a new process.
    """
    import tensorflow as tf

    images = _cached(split)

    def epoch(number):
        # Of this function's graph alone; beside a tensor TensorFlow cannot take a global seed of 0.
        tf.compat.v1.set_random_seed(1)
        key = tf.random.fold_in(tf.constant([seed, 0], tf.int64), number)
        place = tf.random.fold_in(key, number)[0]  # once more: a key begins as the one it comes from
        order = images.shuffle(min(split.examples, 50_000), seed=place, reshuffle_each_iteration=False)
        batches = _shared(order.batch(batch_size), split.examples, batch_size, processes, replicas)
        keys = tf.data.Dataset.counter().map(lambda step: tf.random.fold_in(key, step))
        return tf.data.Dataset.zip(batches, keys)

    def epochs(numbers):
        batches = numbers.flat_map(epoch).map(
            lambda batch, key: (
                batch[0] if augment is None else augmented(batch[0], key, augment == "crop_flip"),
                batch[1],
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return scaled(batches, mean, std)

    return epochs, _steps(split.examples, batch_size, processes[0] * replicas)


def fits_on_device(split):
    """Return whether Keras takes batches from the device, and that holds all images beside the rest."""
    import keras

    if keras.backend.backend() != "jax":
        return False
    import jax

    size = split.examples * split.images.element_spec[0].shape.num_elements()
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", _CACHE_BYTES)
    return size <= memory // 8


def any_epoch(epochs, steps, seed):
    """Return a data set that is a different epoch each time it is run through."""
    import tensorflow as tf

    numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
    return epochs(numbers).apply(tf.data.experimental.assert_cardinality(steps))


def _steps(examples, batch_size, devices):
    full, rest = divmod(examples, batch_size)
    return full + (rest >= devices)


def test_batches(split, batch_size, mean, std, processes, replicas):
    """Return the test images in batches, in their order."""
    batches = _shared(_cached(split).batch(batch_size), split.examples, batch_size, processes, replicas)
    return scaled(batches, mean, std)


def _shared(batches, examples, batch_size, processes, replicas):
    """Return one process's share of every batch; all processes get equally many images and batches."""
    import tensorflow as tf

    many, process = processes
    devices = many * replicas
    if devices == 1:
        return batches

    def share(x, y):
        end = tf.shape(x)[0] // devices * devices
        return x[process:end:many], y[process:end:many]

    return batches.map(share, num_parallel_calls=tf.data.AUTOTUNE).take(
        _steps(examples, batch_size, devices)
    )


def _cached(split):
    small = split.examples * split.images.element_spec[0].shape.num_elements() < _CACHE_BYTES
    return split.images.cache() if small else split.images


def scaled(batches, mean, std):
    """Return batches whose pixels are float32, with mean and deviation taken out."""
    import tensorflow as tf

    mean, std = np.asarray(mean, "float32"), np.asarray(std, "float32")
    return batches.map(
        lambda x, y: ((tf.cast(x, tf.float32) - mean) / std, y),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).prefetch(tf.data.AUTOTUNE)


def augmented(x, seed, flip):
    """Shift each image of a uint8 batch by up to an eighth, on its own; mirror half of them."""
    import tensorflow as tf

    count, (height, width) = tf.shape(x)[0], x.shape[1:3]
    pad_y, pad_x = height // 8, width // 8
    x = tf.pad(x, [[0, 0], [pad_y, pad_y], [pad_x, pad_x], [0, 0]])
    for axis, size, pad in ((1, height, pad_y), (2, width, pad_x)):
        offset = tf.random.stateless_uniform((count, 1), seed + axis, 0, 2 * pad + 1, tf.int32)
        x = tf.gather(x, offset + tf.range(size), axis=axis, batch_dims=1)
    if flip:
        mirrored = tf.random.stateless_uniform((count, 1, 1, 1), seed + 3) < 0.5
        x = tf.where(mirrored, tf.reverse(x, [2]), x)
    return x
