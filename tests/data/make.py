"""Make shapes.npz, a data set for the tests of training: squares, crosses and frames of 8 × 8 pixels, with noise.

    python make.py

Needs the Python package numpy. 48 pictures to train with, 12 for the test, 16 and 4 of each class.
"""

from pathlib import Path

import numpy as np


def draw(kind, rng):
    picture = rng.integers(0, 60, (8, 8))
    size, x, y = rng.integers(4, 7), *rng.integers(0, 2, 2)
    part = picture[y : y + size, x : x + size]
    if kind == 0:
        part += 150
    elif kind == 1:
        part[size // 2] += 150
        part[:, size // 2] += 150
    else:
        part[[0, -1]] += 150
        part[1:-1, [0, -1]] += 150
    return np.clip(picture, 0, 255).astype(np.uint8)


def main():
    rng = np.random.default_rng(1)
    labels = np.tile(np.arange(3, dtype=np.uint8), 20)
    images = np.stack([draw(label, rng) for label in labels])
    np.savez_compressed(
        Path(__file__).with_name("shapes.npz"),
        train_images=images[:48], train_labels=labels[:48], test_images=images[48:], test_labels=labels[48:],
    )


if __name__ == "__main__":
    main()
