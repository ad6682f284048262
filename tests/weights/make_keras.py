"""Weights as Keras writes them, in each of its forms, and what its network gives for an image.

    KERAS_BACKEND=torch python tests/weights/make_keras.py      # needs keras 3, h5py and numpy; writes beside itself
"""

import pathlib

import h5py
import keras
import numpy as np
from keras import layers

HERE = pathlib.Path(__file__).parent


def network():
    image = keras.Input((6, 5, 2), name="image")
    x = layers.Conv2D(3, 3, padding="same", name="stem")(image)
    x = layers.BatchNormalization(scale=False, name="norm")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="depthwise")(x)
    x = layers.Conv2DTranspose(2, 2, strides=2, name="up")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(12, activation="relu", name="hidden")(x)
    x = layers.Reshape((4, 3))(x)
    x = layers.Bidirectional(layers.GRU(2, return_sequences=True), name="steps")(x)
    return keras.Model(image, x)


def main():
    rng = np.random.default_rng(1)
    model = network()
    for weight in model.weights:
        values = rng.normal(size=weight.shape) * 0.5
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)
    for name in ["keras.weights.h5", "keras.keras", "keras.h5"]:
        write = model.save_weights if "weights" in name else model.save
        write(HERE / name)
    x = rng.normal(size=(2, 6, 5, 2)).astype(np.float32)
    y = np.asarray(model(x, training=False).detach())
    np.savez(HERE / "keras.npz", x=x.transpose(0, 3, 1, 2), y=y)
    # What h5py writes by itself: newer forms of groups and indices, chunks that are packed, other numbers.
    with h5py.File(HERE / "packed.h5", "w", libver="latest") as file:
        plain = np.arange(6, dtype="<f4").reshape(2, 3)
        file.create_dataset("conv1/plain", data=plain, chunks=(1, 2), compression="gzip", shuffle=True)
        file.create_dataset("conv1/half", data=plain.astype("<f2"))
        file.create_dataset("big", data=plain.astype(">f8"))
        file.create_dataset("grown", data=plain, maxshape=(None, 3), chunks=(1, 3), fletcher32=True)
        for i in range(12):
            file.create_dataset(f"many/{i}", data=np.float32(i))
        file.create_dataset("name", data="text")


main()
