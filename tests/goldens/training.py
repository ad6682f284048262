"""Make the goldens of whole trainings: twenty steps of each optimizer and schedule as PyTorch takes them, in the folder
`training`.

    python training.py [NAME ...] [--check]

Needs the Python packages torch and numpy. A case is an optimizer, a schedule and what else a `train` block says; the
script writes NAME.net, the network with that block, and NAME.npz:

    weight.X   values before the first step
    images, labels   the samples, in the order in which they are taken
    losses     the loss of each step
    after.X    weights after the last step

All is computed in float64 from float32 values and rounded once. Caffe's rule is not PyTorch's; here it stands as its
authors wrote it.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

FOLDER = Path(__file__).resolve().parent / "training"
BATCH, EPOCHS, PER_EPOCH = 6, 5, 4
STEPS = EPOCHS * PER_EPOCH

TEXT = """netc 1
model small {{
    input image: f32[N, 2, 6, 6]
    c: conv(4, 3, pad = 1)
    relu
    flatten
    f: linear(5)
    output logits
}}

train small {{
    batch {batch}   epochs {epochs}
{loss}
{clauses}
}}
"""


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.c = torch.nn.Conv2d(2, 4, 3, padding=1)
        self.f = torch.nn.Linear(4 * 36, 5)

    def forward(self, x):
        return self.f(F.relu(self.c(x)).flatten(1))


class CaffeSgd(torch.optim.Optimizer):
    """Caffe's SGDSolver and NesterovSolver: the velocity holds the learning rate."""

    def __init__(self, params, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                g = p.grad + group["weight_decay"] * p
                before = self.state[p].get("v", torch.zeros_like(p))
                v = group["momentum"] * before + group["lr"] * g
                self.state[p]["v"] = v
                p -= (1 + group["momentum"]) * v - group["momentum"] * before if group["nesterov"] else v


def constant(step):
    return 1.0


def by_epoch(scheduler, **settings):
    """A scheduler of PyTorch that is told of epochs."""

    def factors(optimizer):
        scheduled, rates = scheduler(optimizer, **settings), []
        for _ in range(EPOCHS):
            rates += [optimizer.param_groups[0]["lr"]] * PER_EPOCH
            optimizer.step()
            scheduled.step()
        return rates

    return factors


def by_step(scheduler, **settings):
    def factors(optimizer):
        scheduled, rates = scheduler(optimizer, **settings), []
        for _ in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduled.step()
        return rates

    return factors


def warm(optimizer, cosine=True):
    """A linear warm-up of one epoch, then half a cosine over the steps that are left."""
    from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, SequentialLR

    rise = LinearLR(optimizer, 1 / (PER_EPOCH + 1), 1.0, PER_EPOCH)
    rest = CosineAnnealingLR(optimizer, STEPS - PER_EPOCH) if cosine else ConstantLR(optimizer, 1.0)
    return SequentialLR(optimizer, [rise, rest], [PER_EPOCH])


L = torch.optim.lr_scheduler
SGD, ADAM, ADAMW, RMSPROP = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop

# Name: clauses of the text, optimizer, its settings, schedule, and what else.
CASES = {
    "sgd": ("sgd(lr = 0.05)", SGD, dict(lr=0.05)),
    "momentum": ("sgd(lr = 0.05, momentum = 0.9)", SGD, dict(lr=0.05, momentum=0.9)),
    "dampening": (
        "sgd(lr = 0.05, momentum = 0.9, dampening = 0.3)", SGD, dict(lr=0.05, momentum=0.9, dampening=0.3)),
    "nesterov": (
        "sgd(lr = 0.05, momentum = 0.9, nesterov = true, weight_decay = 0.01)", SGD,
        dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)),
    "caffe": (
        "caffe_sgd(lr = 0.05, momentum = 0.9, weight_decay = 0.01)", CaffeSgd,
        dict(lr=0.05, momentum=0.9, weight_decay=0.01), "step(every = 2, gamma = 0.5)",
        by_epoch(L.StepLR, step_size=2, gamma=0.5)),
    "caffe_nesterov": (
        "caffe_sgd(lr = 0.05, momentum = 0.9, nesterov = true)", CaffeSgd, dict(lr=0.05, momentum=0.9, nesterov=True),
        "exponential(gamma = 0.8)", by_epoch(L.ExponentialLR, gamma=0.8)),
    "adam": ("adam(lr = 0.01)", ADAM, dict(lr=0.01)),
    "adam_decay": (
        "adam(lr = 0.01, beta1 = 0.5, beta2 = 0.9, eps = 0.001, weight_decay = 0.1)", ADAM,
        dict(lr=0.01, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1)),
    "adamw": ("adamw(lr = 0.01, weight_decay = 0.1)", ADAMW, dict(lr=0.01, weight_decay=0.1)),
    "rmsprop": ("rmsprop(lr = 0.005)", RMSPROP, dict(lr=0.005)),
    "rmsprop_momentum": (
        "rmsprop(lr = 0.002, alpha = 0.9, momentum = 0.8, weight_decay = 0.01)", RMSPROP,
        dict(lr=0.002, alpha=0.9, momentum=0.8, weight_decay=0.01)),
    "rmsprop_centered": (
        "rmsprop(lr = 0.002, alpha = 0.9, momentum = 0.5, centered = true)", RMSPROP,
        dict(lr=0.002, alpha=0.9, momentum=0.5, centered=True)),
    "step": (
        "sgd(lr = 0.1)", SGD, dict(lr=0.1), "step(every = 2, gamma = 0.3)", by_epoch(L.StepLR, step_size=2, gamma=0.3)),
    "multistep": (
        "sgd(lr = 0.1)", SGD, dict(lr=0.1), "multistep(milestones = [1, 3], gamma = 0.2)",
        by_epoch(L.MultiStepLR, milestones=[1, 3], gamma=0.2)),
    "exponential": (
        "sgd(lr = 0.1)", SGD, dict(lr=0.1), "exponential(gamma = 0.7)", by_epoch(L.ExponentialLR, gamma=0.7)),
    "poly": (
        "sgd(lr = 0.1)", SGD, dict(lr=0.1), "poly(power = 2)", by_step(L.PolynomialLR, total_iters=STEPS, power=2)),
    "cosine": ("adam(lr = 0.01)", ADAM, dict(lr=0.01), "cosine()", by_step(L.CosineAnnealingLR, T_max=STEPS)),
    "cosine_warm": ("sgd(lr = 0.1)", SGD, dict(lr=0.1), "cosine(warmup = 1)", by_step(warm)),
    "warm": ("sgd(lr = 0.1)", SGD, dict(lr=0.1), "constant(warmup = 1)", by_step(warm, cosine=False)),
    "one_cycle": (
        "adam(lr = 0.02)", ADAM, dict(lr=0.02), "one_cycle()",
        by_step(L.OneCycleLR, max_lr=0.02, total_steps=STEPS, cycle_momentum=False)),
    "clip": ("sgd(lr = 0.1, momentum = 0.9)", SGD, dict(lr=0.1, momentum=0.9), None, None, dict(clip=0.5)),
    "no_decay": (
        "sgd(lr = 0.1, weight_decay = 0.1)", SGD, dict(lr=0.1, weight_decay=0.1), None, None, dict(no_decay="bias")),
    "freeze": ("adam(lr = 0.01)", ADAM, dict(lr=0.01), None, None, dict(freeze="c")),
    "ema": ("sgd(lr = 0.1)", SGD, dict(lr=0.1), None, None, dict(ema=0.9)),
    "smoothing": ("sgd(lr = 0.1)", SGD, dict(lr=0.1), None, None, dict(smoothing=0.2)),
    "class_weights": (
        "sgd(lr = 0.1)", SGD, dict(lr=0.1), None, None, dict(smoothing=0.1, class_weights=[1, 2, 0.5, 0.25, 3])),
    "lr_scale": (
        "sgd(lr = 0.05, momentum = 0.9, weight_decay = 0.01)", SGD, dict(lr=0.05, momentum=0.9, weight_decay=0.01),
        "cosine", by_step(L.CosineAnnealingLR, T_max=STEPS), dict(lr_scale={"bias": 2, "c": 0.1})),
    "lr_scale_adamw": (
        "adamw(lr = 0.01, weight_decay = 0.1)", ADAMW, dict(lr=0.01, weight_decay=0.1), None, None,
        dict(lr_scale={"f": 0.5})),
    "soft_targets": ("sgd(lr = 0.1)", SGD, dict(lr=0.1), None, None, dict(soft=True)),
    "distillation": ("sgd(lr = 0.1)", SGD, dict(lr=0.1), None, None, dict(soft=True, temperature=4)),
}


def rates(schedule, kind, settings):
    if schedule is None:
        return [settings["lr"]] * STEPS
    dummy = torch.nn.Parameter(torch.zeros(1))
    dummy.grad = torch.zeros(1)
    return schedule(kind([dummy], **settings))


def loss_of(scores, labels, more):
    if "temperature" in more:
        # Hinton et al. 2015: the square makes up for the gradients, which are smaller by it.
        t = more["temperature"]
        return t * t * F.cross_entropy(scores / t, F.softmax(labels / t, 1))
    weight = torch.tensor(more["class_weights"]).double() if "class_weights" in more else None
    return F.cross_entropy(scores, labels, weight, label_smoothing=more.get("smoothing", 0.0))


def loss_text(more):
    if "soft" in more:
        soft = "distill(logits, target, temperature = 4)" if "temperature" in more else "soft_cross_entropy(logits, target)"
        return ["data image: f32[N, 2, 6, 6]", "data target: f32[N, 5]", "loss " + soft]
    arguments = [f"{k} = {more[k]}" for k in ("smoothing", "class_weights") if k in more]
    return [f"loss cross_entropy({', '.join(['logits'] + arguments)})"]


def make(name, text, kind, settings, schedule_text=None, schedule=None, more=None):
    more = more or {}
    torch.manual_seed(sum(map(ord, name)))
    torch.set_default_dtype(torch.float32)
    net = Net()
    images = torch.randn(STEPS * BATCH, 2, 6, 6)
    labels = torch.randint(5, (STEPS * BATCH,))
    if "soft" in more:
        labels = 3 * torch.randn(STEPS * BATCH, 5)
        labels = labels if "temperature" in more else F.softmax(labels, 1)
    tensors = {f"weight.{k}": v.detach().numpy().copy() for k, v in net.named_parameters()}
    tensors |= {"images": images.numpy(), "labels": labels.numpy().astype(np.float32)}
    net, images = net.double(), images.double()
    labels = labels.double() if "soft" in more else labels
    frozen = more.get("freeze")
    named = [(k, p) for k, p in net.named_parameters() if not (frozen and k.startswith(frozen + "."))]
    groups = [{"params": [p for k, p in named if not k.endswith(more.get("no_decay", "none"))]}]
    if "no_decay" in more:
        groups.append({"params": [p for k, p in named if k.endswith(more["no_decay"])], "weight_decay": 0.0})
    if "lr_scale" in more:
        groups = [{"params": [p]} for _, p in named]
    scales = [
        math.prod(by for of, by in more.get("lr_scale", {}).items() if of in k.split(".")) for k, _ in named
    ] if "lr_scale" in more else [1.0] * len(groups)
    optimizer = kind(groups, **settings)
    averages = {k: p.detach().clone() for k, p in net.named_parameters()}
    losses = []
    for step, rate in enumerate(rates(schedule, kind, settings)):
        for group, scale in zip(optimizer.param_groups, scales):
            group["lr"] = rate * scale
        of = slice(step * BATCH, (step + 1) * BATCH)
        loss = loss_of(net(images[of]), labels[of], more)
        optimizer.zero_grad()
        loss.backward()
        if "clip" in more:
            torch.nn.utils.clip_grad_norm_([p for _, p in named], more["clip"])
        optimizer.step()
        losses.append(loss.item())
        for k, p in net.named_parameters():
            decay = more.get("ema", 0.0)
            averages[k] = decay * averages[k] + (1 - decay) * p.detach()
    tensors["losses"] = np.array(losses, np.float32)
    tensors |= {f"after.{k}": v.float().numpy() for k, v in averages.items()}
    assert all(math.isfinite(l) for l in losses)
    clauses = [f"optimizer {text}"]
    clauses += [f"schedule {schedule_text}"] if schedule_text else []
    clauses += [f"{k} {more[k]}" for k in ("clip", "no_decay", "freeze", "ema") if k in more]
    clauses += [f"lr_scale {of} {by}" for of, by in more.get("lr_scale", {}).items()]
    lines = "\n".join("    " + c for c in clauses)
    loss = "\n".join("    " + line for line in loss_text(more))
    return TEXT.format(batch=BATCH, epochs=EPOCHS, clauses=lines, loss=loss), tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--check", action="store_true", help="compare with the files that are there")
    args = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name in args.names or CASES:
        text, tensors = make(name, *CASES[name])
        if args.check:
            there = np.load(FOLDER / f"{name}.npz")
            worst = max(float(np.abs(there[k] - v).max()) for k, v in tensors.items())
            print(f"{name}: {'equal text' if (FOLDER / f'{name}.net').read_text() == text else 'OTHER TEXT'}, {worst:.1e}")
            continue
        (FOLDER / f"{name}.net").write_text(text)
        np.savez_compressed(FOLDER / f"{name}.npz", **tensors)


if __name__ == "__main__":
    main()
