"""Single images of one split of a data set."""

from dataclasses import dataclass

import numpy as np

_STATISTICS_FROM = 10_000  # images; more move a mean or deviation by less than training notices


@dataclass(frozen=True)
class Split:
    """Single images of one split: a `tf.data.Dataset` of (uint8 (H, W, C), int label)."""

    images: object
    examples: int

    @property
    def shape(self):
        """Shape (H, W, C) of an image, with `None` where images differ."""
        return tuple(self.images.element_spec[0].shape)

    def first(self, examples):
        """Return the split with only the first `examples` images; `None` keeps all."""
        if examples is None or examples >= self.examples:
            return self
        return Split(self.images.take(examples), examples)

    def resized(self, image_size):
        """Return the split with images of `image_size` pixels square; `None` leaves them as they are."""
        import tensorflow as tf

        if not image_size:
            return self

        def resize(x, y):
            x = tf.image.resize(x, (image_size, image_size), antialias=True)
            return tf.cast(tf.round(tf.clip_by_value(x, 0, 255)), tf.uint8), y

        return Split(self.images.map(resize, num_parallel_calls=tf.data.AUTOTUNE), self.examples)

    def statistics(self):
        """Return mean and deviation per channel over the first images, in pixel units."""
        count, total, squares = 0, 0.0, 0.0
        for x, _ in self.images.take(_STATISTICS_FROM).batch(256).as_numpy_iterator():
            pixels = x.reshape(-1, x.shape[-1]).astype(np.float64)
            count += len(pixels)
            total += pixels.sum(axis=0)
            squares += (pixels**2).sum(axis=0)
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 1.0))  # a channel of one colour has none
        return tuple(mean.tolist()), tuple(std.tolist())

    def arrays(self):
        """Return all images and all labels as two arrays."""
        parts = list(self.images.batch(1024).as_numpy_iterator())
        return [np.concatenate(part) for part in zip(*parts, strict=True)]


def from_arrays(x, y):
    """Return the `Split` of uint8 images (N, H, W[, C]) and their labels."""
    import tensorflow as tf

    x = x[..., None] if x.ndim == 3 else x
    return Split(tf.data.Dataset.from_tensor_slices((x, y.reshape(-1).astype("int64"))), len(x))
