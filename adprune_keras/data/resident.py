"""Training images that are kept on the device (JAX), where batches are drawn, augmented and scaled."""

import functools
import itertools

import numpy as np


def epochs(images, labels, batch_size, mean, std, augment, seed):
    """Return a function from the number of an epoch to all batches from that epoch on, without an end.

    The content of an epoch depends only on the seed and its number.

    Args:
        images: uint8 array (N, H, W, C).
        labels: int array (N,).
        batch_size: int.
        mean: sequence of C floats in pixel units, subtracted from each pixel.
        std: sequence of C floats in pixel units; each pixel is divided by it.
        augment: `None`, `"crop"` or `"crop_flip"`.
        seed: int.

    Returns:
        function of an int that returns a generator of (float32 images (n, H, W, C), labels (n,)), jax
        arrays; the last batch of an epoch may be smaller.
    """
    import jax

    count = len(images)
    images, labels = jax.device_put(images), jax.device_put(labels)
    mean, std = np.asarray(mean, "float32"), np.asarray(std, "float32")

    @jax.jit
    def order_of(key):
        return jax.random.permutation(key, count)

    @functools.partial(jax.jit, static_argnames="size")
    def batch_at(images, labels, order, step, key, size):
        chosen = jax.lax.dynamic_slice_in_dim(order, step * batch_size, size)
        x = images[chosen]
        if augment is not None:
            x = _augmented(x, jax.random.fold_in(key, step), augment == "crop_flip")
        return (x.astype("float32") - mean) / std, labels[chosen]

    def batches(first):
        for number in itertools.count(first):
            shuffle, augmentation = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
            order = order_of(shuffle)
            for start in range(0, count, batch_size):
                size = min(batch_size, count - start)
                yield batch_at(images, labels, order, start // batch_size, augmentation, size=size)

    return batches


def _augmented(x, key, flip):
    """Shift each image of a uint8 batch by up to an eighth, on its own; mirror half of them."""
    import jax
    import jax.numpy as jnp

    height, width = x.shape[1:3]
    pads = height // 8, width // 8
    x = jnp.pad(x, [(0, 0), *((pad, pad) for pad in pads), (0, 0)])
    down, right, mirror = jax.random.split(key, 3)
    rows, columns = (
        jax.random.randint(key, (len(x), 1), 0, 2 * pad + 1) + jnp.arange(size)
        for key, size, pad in zip((down, right), (height, width), pads, strict=True)
    )
    if flip:
        columns = jnp.where(jax.random.bernoulli(mirror, shape=(len(x), 1)), columns[:, ::-1], columns)
    return x[jnp.arange(len(x))[:, None, None], rows[:, :, None], columns[:, None, :]]
