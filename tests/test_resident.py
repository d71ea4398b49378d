import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("jax")

from adprune_keras.data import resident

COUNT, SIZE = 22, 16
LABELS = np.arange(COUNT)


def images():
    """Each pixel says its image, its row and its column; all above 0."""
    number, row, column = np.ogrid[:COUNT, :SIZE, :SIZE]
    parts = [np.broadcast_to(part + 1, (COUNT, SIZE, SIZE)) for part in (number, row, column)]
    return np.stack(parts, axis=-1).astype("uint8")


def epoch(number=0, augment=None, seed=0, mean=(0.0,) * 3, std=(1.0,) * 3):
    batches = resident.epochs(images(), LABELS, 8, mean, std, augment, seed)(number)
    found = [(np.asarray(x), np.asarray(y)) for x, y in itertools.islice(batches, 3)]
    return found, np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])


def test_an_epoch_has_each_image_once_with_its_label_in_an_order_of_its_own():
    batches, x, y = epoch()
    assert [len(labels) for _, labels in batches] == [8, 8, 6]
    assert sorted(y) == list(LABELS) != list(y)
    assert np.array_equal(x, images()[y])
    for _, _, other in (epoch(1), epoch(seed=1)):
        assert sorted(other) == list(LABELS)
        assert list(other) != list(y)


def test_an_epoch_follows_from_the_seed_and_its_number():
    _, x, y = epoch(2, "crop_flip")
    _, again, labels = epoch(2, "crop_flip")
    endless = resident.epochs(images(), LABELS, 8, (0.0,) * 3, (1.0,) * 3, "crop_flip", 0)(0)
    later = list(itertools.islice(endless, 6, 9))
    assert np.array_equal(x, again)
    assert np.array_equal(y, labels)
    assert np.array_equal(x, np.concatenate([x for x, _ in later]))


def test_images_are_scaled():
    _, x, y = epoch(mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    assert np.allclose(x, (images()[y] - np.array([1.0, 2.0, 3.0])) / np.array([2.0, 4.0, 8.0]))


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["crop", "crop_flip"])
def test_images_are_shifted_by_up_to_an_eighth_and_mirrored_each_on_its_own(augment):
    seen = set()
    for number in range(8):
        _, x, y = epoch(number, augment)
        for image, label in zip(x, y, strict=True):
            inside = image[..., 0] > 0
            assert set(image[..., 0][inside]) == {label + 1}
            middle = image[SIZE // 2, SIZE // 2 - 1 : SIZE // 2 + 1]
            step = int(middle[1, 2] - middle[0, 2])
            shift = int(middle[0, 1]) - SIZE // 2 - 1
            column = int(middle[0, 2]) - 1
            across = column - (SIZE // 2 - 1 if step == 1 else SIZE // 2)
            assert abs(shift) <= SIZE // 8 and abs(across) <= SIZE // 8
            assert inside.sum() == (SIZE - abs(shift)) * (SIZE - abs(across))
            seen.add((step, shift, across))
    assert {step for step, _, _ in seen} == ({1} if augment == "crop" else {1, -1})
    assert {shift for _, shift, _ in seen} == {across for _, _, across in seen} == {-2, -1, 0, 1, 2}


LOADED = """
import itertools
import os
import subprocess
import sys
import jax
from adprune_keras import data
loaded = data.load("digits", batch_size=500)
for first in (0, 3):
    batches = list(itertools.islice(loaded.epochs(first), loaded.steps))
    assert all(isinstance(part, jax.Array) for batch in batches for part in batch)
    assert sum(len(x) for x, _ in batches) == loaded.train_examples
"""


@pytest.mark.slow
def test_small_sets_get_there_on_jax():
    pytest.importorskip("tensorflow")
    env = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", LOADED], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
