"""Digits in 20 lines: train, prune, and write a TFLite file that was checked by running it."""

import keras
from adprune_keras.export import export_model
from sklearn.datasets import load_digits

from adprune_keras import ADPrune, models

x, y = load_digits(return_X_y=True)
x = x.reshape(-1, 8, 8, 1).astype("float32") / 8 - 1
train, test = (x[:1437], y[:1437]), (x[1437:], y[1437:])

keras.utils.set_random_seed(0)
model = models.VGG11(input_shape=(8, 8, 1), classes=10, widths=[16, 16, 32, 32, 64, 64, 64, 64])
sgd = keras.optimizers.SGD(0.05, momentum=0.9)
model.compile(sgd, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
prune = ADPrune(schedule=[6], seed=0)
model.fit(*train, batch_size=64, epochs=16, validation_data=test, callbacks=[prune], verbose=2)

report = export_model(model, "digits", ["tflite"], test_data=test)["tflite"]
print(f"{report['accuracy']:.2f} % of the test images with {report['bytes']:,} bytes")
for count, reduction in prune.record[-1]["ops_reduction"].items():
    print(f"OPS reduction ({count} count): {reduction:.2f}x")
