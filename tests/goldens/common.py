"""Random weights that show mistakes, and counts of what runs; shared by make.py and scripts/torchvision_weights.py."""

import math

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck


class Scale(nn.Module):
    """Caffe's Scale layer: a factor and a bias for each channel."""

    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return x * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


def randomize(model):
    """Weights that keep activations near their size through any depth, and batch-norm statistics far from 0 and 1, so
    that a fold that forgets one of them is seen."""
    blocks = sum(isinstance(module, BasicBlock | Bottleneck) for module in model.modules())
    with torch.no_grad():
        for module in reversed(list(model.modules())):  # what is inside a block before the block
            if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
                fan_in = module.weight[0].numel()
                if isinstance(module, nn.ConvTranspose2d):
                    taps = module.weight[0, 0].numel() / math.prod(module.stride)
                    fan_in = max(1.0, taps * module.in_channels / module.groups)
                module.weight.normal_(0, math.sqrt(2 / fan_in))
                if module.bias is not None:
                    module.bias.normal_(0, 0.1)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                if module.affine:
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_(0, 0.2)
            elif isinstance(module, BasicBlock | Bottleneck):
                # Each block adds to its skip, so the deeper the network, the less each may add.
                last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                last.weight.mul_(min(0.3, 1.3 / math.sqrt(blocks)))
            elif isinstance(module, Scale):
                module.weight.normal_(1, 0.3)
                module.bias.normal_(0, 0.3)
            elif isinstance(module, nn.Conv1d):
                module.weight.normal_(0, math.sqrt(2 / module.weight[0].numel()))
                if module.bias is not None:
                    module.bias.normal_(0, 0.1)
            elif isinstance(module, nn.GroupNorm | nn.LayerNorm) and module.weight is not None:
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
            elif isinstance(module, nn.PReLU):
                module.weight.uniform_(0, 0.5)


def state_of(model):
    """The state dict under its own names, without the counters of training steps."""
    return {k: v.contiguous() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}


class Measure:
    """Counts parameters and MACs (of convolution and linear layers, at N = 1) of what really runs, and notes layers
    whose activations die or explode."""

    def __init__(self, model, batch):
        self.macs, self.seen, self.trouble, self.batch = 0, {}, [], batch
        for name, module in model.named_modules():
            if name and not list(module.children()):
                module.register_forward_hook(self.hook(name))

    def hook(self, name):
        def measure(module, inputs, output):
            self.seen[name] = sum(p.numel() for p in module.parameters())
            weight = getattr(module, "weight", None)
            if isinstance(module, nn.Conv2d | nn.Linear):
                self.macs += output.numel() // self.batch * weight[0].numel()
            if isinstance(module, nn.ConvTranspose2d):
                self.macs += inputs[0].numel() // self.batch * weight[0].numel()
            std, alive = output.std().item(), (output != 0).double().mean().item()
            if output.numel() > 1 and not (0.02 < std < 30 and alive > 0.05):
                self.trouble.append(f"{name}: std {std:.3g}, {alive:.0%} not zero")

        return measure

    @property
    def params(self):
        return sum(self.seen.values())
