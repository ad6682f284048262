"""Time steps of training in netc and in PyTorch, in turn, on the same networks with the same batches.

    python -m venv v && . v/bin/activate
    pip install torch torchvision numpy
    cargo build --release
    python benches/peers/training.py

Writes docs/BENCHMARKS_TRAINING.md and docs/benchmarks_training.json. Takes about forty minutes on two cores and wants the
machine for itself; `--networks resnet18 --rounds 1 --seconds 3 --out /tmp` is a quick look. Needs Linux (`taskset`).

A step is forward, loss, backward and the optimizer's update of all weights, on samples that are in memory already.
In each round each engine runs in a process of its own for some seconds, pinned to as many CPUs as it has threads; the order
moves on from round to round. A figure is the median of the rounds' medians; PyTorch's is the best of its layouts, NCHW
and channels last, and of torch.compile, where that works. Memory is the most that a process had resident.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SMALL = """netc 1
model small_cnn {
    input image: f32[N, 1, 28, 28]
    conv1: conv(32, 3)
    relu
    conv2: conv(64, 3)
    relu
    max_pool(2)
    dropout(0.25)
    flatten
    fc1: linear(128)
    relu
    dropout(0.5)
    fc2: linear(10)
    output logits
}
"""

RESNET20 = """netc 1
use std.resnet
model resnet20 {
    input image: f32[N, 3, 32, 32]
    conv1: conv(16, 3, pad = 1, bias = false)
    bn1:   batch_norm
    relu
    for (i, channels) in [(1, 16), (2, 32), (3, 64)] {
        for j in 0..3 {
            layer{i}.{j}: basic_block(channels, stride = if i > 1 and j == 0 then 2 else 1)
        }
    }
    global_avg_pool
    flatten
    fc: linear(10)
    output logits
}
"""

# Name: text or file of the zoo, its model, batch, input, classes.
NETWORKS = {
    "small_cnn": (SMALL, 128, (1, 28, 28), 10),
    "resnet20": (RESNET20, 128, (3, 32, 32), 10),
    "nin_cifar10": (None, 128, (3, 32, 32), 10),
    "resnet18": (None, 16, (3, 224, 224), 1000),
    "resnet50": (None, 8, (3, 224, 224), 1000),
    "googlenet_torchvision": (None, 16, (3, 224, 224), 1000),
    "alexnet_torchvision": (None, 32, (3, 224, 224), 1000),
    "vgg11": (None, 8, (3, 224, 224), 1000),
    "dcgan": (None, 32, (3, 64, 64), 0),
}
TITLES = {
    "small_cnn": "small CNN, 28×28", "resnet20": "ResNet-20, 32×32", "nin_cifar10": "NIN for CIFAR-10",
    "resnet18": "ResNet-18", "resnet50": "ResNet-50", "googlenet_torchvision": "GoogLeNet with heads",
    "alexnet_torchvision": "AlexNet", "vgg11": "VGG-11", "dcgan": "DCGAN, both steps",
}  # fmt: skip
BLOCK = """
train {name} {{
    batch {batch}   epochs 1
    loss cross_entropy(logits)
    optimizer sgd(lr = 0.001, momentum = 0.9, weight_decay = 0.0001)
}}
"""
ENGINES = ["netc", "pt", "pt_cl", "pt_compile"]


# --- PyTorch, in a process of its own ------------------------------------------------------------------------------


def small_cnn():
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip


def resnet20():
    from torch import nn
    from torchvision.models.resnet import BasicBlock

    def block(inputs, channels, stride):
        down = None
        if stride > 1 or inputs != channels:
            down = nn.Sequential(nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        return BasicBlock(inputs, channels, stride, down)

    layers, inputs = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)], 16
    for channels in (16, 32, 64):
        for j in range(3):
            layers.append(block(inputs, channels, 2 if channels > 16 and j == 0 else 1))
            inputs = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def nin_cifar10():
    from torch import nn

    def conv(inputs, outputs, kernel, pad=0):
        return [nn.Conv2d(inputs, outputs, kernel, padding=pad), nn.ReLU(inplace=True)]

    return nn.Sequential(
        *conv(3, 192, 5, 2), *conv(192, 160, 1), *conv(160, 96, 1), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Dropout(),
        *conv(96, 192, 5, 2), *conv(192, 192, 1), *conv(192, 192, 1), nn.AvgPool2d(3, 2, ceil_mode=True), nn.Dropout(),
        *conv(192, 192, 3, 1), *conv(192, 192, 1), *conv(192, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def zoo(name):
    import torchvision.models as models

    plain = {"weights": None, "init_weights": False}
    return {
        "small_cnn": small_cnn, "resnet20": resnet20, "nin_cifar10": nin_cifar10,
        "resnet18": models.resnet18, "resnet50": models.resnet50, "vgg11": lambda: models.vgg11(init_weights=False),
        "googlenet_torchvision": lambda: models.googlenet(aux_logits=True, **plain),
        "alexnet_torchvision": models.alexnet,
    }[name]()  # fmt: skip


def classifier(name, options):
    """A step of a classifier."""
    import torch
    import torch.nn.functional as F

    _, batch, shape, classes = NETWORKS[name]
    net, x, y = zoo(name).train(), torch.randn(batch, *shape), torch.randint(classes, (batch,))
    if options.engine == "pt_cl":
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0001)
    forward = torch.compile(net) if options.engine == "pt_compile" else net

    def step():
        out = forward(x)
        if name == "googlenet_torchvision":
            loss = F.cross_entropy(out.logits, y)
            loss = loss + 0.3 * F.cross_entropy(out.aux_logits1, y) + 0.3 * F.cross_entropy(out.aux_logits2, y)
        else:
            loss = F.cross_entropy(out, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def gan(options):
    """Both steps of PyTorch's DCGAN example."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    def up(inputs, outputs, *args):
        conv = nn.ConvTranspose2d(inputs, outputs, 4, *args, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU(True)]

    def down(inputs, outputs):
        return [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2, True)]

    generator = nn.Sequential(
        *up(100, 512), *up(512, 256, 2, 1), *up(256, 128, 2, 1), *up(128, 64, 2, 1),
        nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(3, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True), *down(64, 128), *down(128, 256),
        *down(256, 512), nn.Conv2d(512, 1, 4, bias=False), nn.Flatten(),
    )  # fmt: skip
    batch = NETWORKS["dcgan"][1]
    real, ones, zeros = torch.rand(batch, 3, 64, 64) * 2 - 1, torch.ones(batch, 1), torch.zeros(batch, 1)
    if options.engine == "pt_cl":
        generator, discriminator = (n.to(memory_format=torch.channels_last) for n in (generator, discriminator))
        real = real.to(memory_format=torch.channels_last)
    made = {"lr": 0.0002, "betas": (0.5, 0.999)}
    of_d = torch.optim.Adam(discriminator.parameters(), **made)
    of_g = torch.optim.Adam(generator.parameters(), **made)
    g, d = (torch.compile(n) if options.engine == "pt_compile" else n for n in (generator, discriminator))
    bce = F.binary_cross_entropy_with_logits

    def step():
        fake = g(torch.randn(batch, 100, 1, 1))
        of_d.zero_grad(set_to_none=True)
        bce(d(real), ones).backward()
        bce(d(fake.detach()), zeros).backward()
        of_d.step()
        of_g.zero_grad(set_to_none=True)
        loss = bce(d(fake), ones)
        loss.backward()
        of_g.step()
        return loss.item()

    return step


def child(options):
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    step = gan(options) if options.network == "dcgan" else classifier(options.network, options)
    for _ in range(2):
        step()
    times, begin = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < options.seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"median_ms": statistics.median(times) * 1e3, "peak_rss_bytes": peak}))


# --- the turns ------------------------------------------------------------------------------------------------------


def text_of(name, folder):
    """A spec with a block that trains it."""
    given, batch, _, _ = NETWORKS[name]
    text = given or (ROOT / f"models/{name}.net").read_text()
    if name != "dcgan":
        text = text.split("\ntrain ")[0].rstrip()
        # A remark that stood before the block belongs to nothing any more.
        while text.splitlines()[-1].startswith("///"):
            text = "\n".join(text.splitlines()[:-1]).rstrip()
        text += "\n" + BLOCK.format(name=name, batch=batch)
    path = folder / f"{name}.net"
    path.write_text(text)
    return path


def turn(engine, name, threads, options, folder):
    cpus = ",".join(options.cpus[:threads])
    if engine == "netc":
        command = [options.netc, "bench", text_of(name, folder), "--train", "--batch", NETWORKS[name][1]]
        command += ["--threads", threads, "--seconds", options.seconds, "--warm-up", 2, "--json"]
    else:
        command = [sys.executable, __file__, "--engine", engine, "--network", name]
        command += ["--threads", threads, "--seconds", options.seconds]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        ["taskset", "-c", cpus, *map(str, command)], env=environment, capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout[done.stdout.index("{"):])


def measure(options):
    results = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shutil.copytree(ROOT / "models/std", folder / "std")
        for name in options.networks:
            for threads in options.threads:
                turns = {engine: [] for engine in options.engines}
                for round in range(options.rounds):
                    first = round % len(options.engines)
                    for engine in options.engines[first:] + options.engines[:first]:
                        if not any("error" in t for t in turns[engine]):
                            turns[engine].append(turn(engine, name, threads, options, folder))
                row = {"network": name, "threads": threads, "batch": NETWORKS[name][1], "engines": {}}
                for engine, all in turns.items():
                    errors = [t["error"] for t in all if "error" in t]
                    row["engines"][engine] = {"error": errors[0]} if errors else {
                        "ms": statistics.median(t["median_ms"] for t in all),
                        "memory": max(t["peak_rss_bytes"] for t in all),
                        "rounds": [t["median_ms"] for t in all],
                    }
                print(json.dumps(row), flush=True)
                results.append(row)
    return results


# --- the document ---------------------------------------------------------------------------------------------------


def best_peer(row):
    peers = {e: r for e, r in row["engines"].items() if e != "netc" and "ms" in r}
    return min(peers.items(), key=lambda peer: peer[1]["ms"]) if peers else (None, None)


def report(results, facts):
    forms = {"pt": "NCHW", "pt_cl": "channels last", "pt_compile": "compiled"}
    size = lambda b: f"{b / 1e6:.0f} MB"  # noqa: E731
    lines = [
        "# Training: netc beside PyTorch", "",
        "Made by `benches/peers/training.py`, which says how it measures. A step is forward, loss, backward and update. Columns",
        "are samples a second: of netc, and of PyTorch in NCHW, in channels last, and by `torch.compile`. The ratio is to the best",
        "of these, and so is the memory: the most that a process had resident.", "",
        f"{facts['cpu']}, {facts['date']}, PyTorch {facts['torch']}, netc {facts['netc']}.", "",
    ]  # fmt: skip
    for threads in sorted({row["threads"] for row in results}):
        rows = [row for row in results if row["threads"] == threads]
        lines += [
            f"## {threads} thread{'s' if threads > 1 else ''}", "",
            f"| network | batch | netc | {' | '.join(forms.values())} | ratio | memory, netc | PyTorch | share |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]  # fmt: skip
        ratios, shares = [], []
        for row in rows:
            ours, (_, theirs) = row["engines"]["netc"], best_peer(row)
            known = [row["engines"].get(form, {}) for form in ["netc", *forms]]
            rates = [f"{row['batch'] / r['ms'] * 1e3:.1f}" if "ms" in r else "–" for r in known]
            line = f"| {TITLES[row['network']]} | {row['batch']} | {' | '.join(rates)} |"
            if "ms" in ours and theirs is not None:
                ratio, share = theirs["ms"] / ours["ms"], ours["memory"] / theirs["memory"]
                ratios.append(ratio)
                shares.append(share)
                line += f" {ratio:.2f} | {size(ours['memory'])} | {size(theirs['memory'])} | {share:.2f} |"
            else:
                line += f" {ours.get('error') or 'PyTorch does not run it'} | | | |"
            lines.append(line)
        if ratios:
            lines += ["", f"Geometric mean of the ratios {statistics.geometric_mean(ratios):.2f}, the smallest "
                          f"{min(ratios):.2f}; of the shares of memory {statistics.geometric_mean(shares):.2f}, the largest "
                          f"{max(shares):.2f}.", ""]  # fmt: skip
    return "\n".join(lines)


def facts(options):
    import torch

    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown")
    netc = subprocess.run([options.netc, "--version"], capture_output=True, text=True).stdout.split()[-1]
    return {"cpu": cpu, "date": time.strftime("%Y-%m-%d"), "torch": torch.__version__.split("+")[0], "netc": netc}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--cpus", nargs="+", default=[str(c) for c in sorted(os.sched_getaffinity(0))])
    parser.add_argument("--netc", default=ROOT / "target/release/netc")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--network", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        options.threads = options.threads[0]
        return child(options)
    results = measure(options)
    known = {"facts": facts(options), "results": results}
    (options.out / "benchmarks_training.json").write_text(json.dumps(known, indent=1) + "\n")
    (options.out / "BENCHMARKS_TRAINING.md").write_text(report(results, known["facts"]) + "\n")


if __name__ == "__main__":
    main()
