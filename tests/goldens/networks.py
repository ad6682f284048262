"""The zoo networks in PyTorch. By default narrow: the structure of the real ones, few channels, small images.
scripts/torchvision_weights.py gives the classes their real widths.

Where torchvision has the network, its own blocks are used, so that names, order and rounding are torchvision's and
not a retelling. Module names are weight names, and the same as the labels in NAME.net.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.densenet import DenseNet
from torchvision.models.googlenet import BasicConv2d, Inception, InceptionAux
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.squeezenet import Fire
from torchvision.models.vgg import VGG, make_layers

CLASSES = 10


class Alexnet(nn.Module):
    """Krizhevsky et al. 2012 as Caffe's bvlc_alexnet has it: groups where the paper had two GPUs, conv, relu, lrn, pool.
    alpha is by default far above the real 1e-4, so that a wrong window or divisor cannot hide."""

    def __init__(self, widths=(12, 20, 24, 24, 16), hidden=48, pooled=2, alpha=0.5, classes=CLASSES):
        super().__init__()
        c1, c2, c3, c4, c5 = widths
        self.alpha = alpha
        self.conv1 = nn.Conv2d(3, c1, 11, 4)
        self.conv2 = nn.Conv2d(c1, c2, 5, 1, 2, groups=2)
        self.conv3 = nn.Conv2d(c2, c3, 3, 1, 1)
        self.conv4 = nn.Conv2d(c3, c4, 3, 1, 1, groups=2)
        self.conv5 = nn.Conv2d(c4, c5, 3, 1, 1, groups=2)
        self.fc6 = nn.Linear(c5 * pooled * pooled, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, classes)

    def forward(self, x):
        def normalise_and_pool(x):
            x = F.local_response_norm(F.relu(x), 5, alpha=self.alpha, beta=0.75, k=1.0)
            return F.max_pool2d(x, 3, 2, ceil_mode=True)

        x = normalise_and_pool(self.conv1(x))
        x = normalise_and_pool(self.conv2(x))
        x = F.relu(self.conv5(F.relu(self.conv4(F.relu(self.conv3(x))))))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True).flatten(1)
        return self.fc8(F.relu(self.fc7(F.relu(self.fc6(x)))))


class AlexnetTorchvision(nn.Module):
    """torchvision.models.alexnet with narrow layers; its classifier expects what the adaptive pool leaves, here 2x2."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(12, 20, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(20, 24, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(24, 16, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(16 * 2 * 2, 48), nn.ReLU(),
            nn.Dropout(), nn.Linear(48, 48), nn.ReLU(),
            nn.Linear(48, CLASSES),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def vgg(widths, batch_norm, pooled):
    network = VGG(make_layers(widths, batch_norm), CLASSES, init_weights=False)
    network.avgpool = nn.AdaptiveAvgPool2d(pooled)
    network.classifier[0] = nn.Linear(widths[-2] * pooled * pooled, 32)
    network.classifier[3] = nn.Linear(32, 32)
    network.classifier[6] = nn.Linear(32, CLASSES)
    return network


class Nin(nn.Module):
    """Lin et al. 2013, Caffe's nin_imagenet with its layer names."""

    def __init__(self, widths=(12, 20, 24, 32), classes=CLASSES):
        super().__init__()
        c1, c2, c3, c4 = widths
        for name, layer in [
            ("conv1", nn.Conv2d(3, c1, 11, 4)), ("cccp1", nn.Conv2d(c1, c1, 1)), ("cccp2", nn.Conv2d(c1, c1, 1)),
            ("conv2", nn.Conv2d(c1, c2, 5, 1, 2)), ("cccp3", nn.Conv2d(c2, c2, 1)), ("cccp4", nn.Conv2d(c2, c2, 1)),
            ("conv3", nn.Conv2d(c2, c3, 3, 1, 1)), ("cccp5", nn.Conv2d(c3, c3, 1)), ("cccp6", nn.Conv2d(c3, c3, 1)),
            ("conv4-1024", nn.Conv2d(c3, c4, 3, 1, 1)), ("cccp7-1024", nn.Conv2d(c4, c4, 1)),
            ("cccp8-1024", nn.Conv2d(c4, classes, 1)),
        ]:  # fmt: skip
            self.add_module(name, layer)

    def forward(self, x):
        for name, layer in self.named_children():
            x = F.relu(layer(x))
            if name in ("cccp2", "cccp4", "cccp6"):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        return x.mean((2, 3))


class NinCifar10(nn.Module):
    """Caffe's cifar10_nin: the second pool is an average, and both round up."""

    def __init__(self, width=20, first=(16, 12), classes=CLASSES):
        super().__init__()
        (c1, c2), w = first, width
        self.conv1, self.cccp1, self.cccp2 = nn.Conv2d(3, w, 5, 1, 2), nn.Conv2d(w, c1, 1), nn.Conv2d(c1, c2, 1)
        self.conv2, self.cccp3, self.cccp4 = nn.Conv2d(c2, w, 5, 1, 2), nn.Conv2d(w, w, 1), nn.Conv2d(w, w, 1)
        self.conv3, self.cccp5, self.cccp6 = nn.Conv2d(w, w, 3, 1, 1), nn.Conv2d(w, w, 1), nn.Conv2d(w, classes, 1)

    def forward(self, x):
        for name, layer in self.named_children():
            x = F.relu(layer(x))
            if name == "cccp2":
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            if name == "cccp4":
                x = F.avg_pool2d(x, 3, 2, ceil_mode=True)
        return x.mean((2, 3))


# name: c1, r3, c3, r5, c5, proj
INCEPTIONS = {
    "3a": (4, 6, 8, 4, 6, 4), "3b": (8, 8, 12, 4, 6, 4),
    "4a": (12, 6, 13, 4, 6, 4), "4b": (10, 7, 14, 4, 6, 4), "4c": (8, 8, 16, 4, 6, 4),
    "4d": (7, 9, 18, 4, 6, 4), "4e": (16, 10, 20, 4, 8, 8),
    "5a": (16, 10, 20, 4, 8, 8), "5b": (24, 12, 24, 5, 8, 8),
}  # fmt: skip


class Googlenet(nn.Module):
    """Szegedy et al. 2014, Caffe's bvlc_googlenet with its layer names, which hold slashes. No batch norm, two LRNs,
    two auxiliary heads. `all_outputs` runs the auxiliary heads too, without dropout."""

    def __init__(self, inceptions=INCEPTIONS, stem=(8, 16), head=(8, 2, 32), alpha=0.5, classes=CLASSES):
        super().__init__()
        self.inceptions, self.alpha = tuple(inceptions), alpha
        self.add_module("conv1/7x7_s2", nn.Conv2d(3, stem[0], 7, 2, 3))
        self.add_module("conv2/3x3_reduce", nn.Conv2d(stem[0], stem[0], 1))
        self.add_module("conv2/3x3", nn.Conv2d(stem[0], stem[1], 3, 1, 1))
        channels = stem[1]
        for name, (c1, r3, c3, r5, c5, proj) in inceptions.items():
            self.add_module(f"inception_{name}/1x1", nn.Conv2d(channels, c1, 1))
            self.add_module(f"inception_{name}/3x3_reduce", nn.Conv2d(channels, r3, 1))
            self.add_module(f"inception_{name}/3x3", nn.Conv2d(r3, c3, 3, 1, 1))
            self.add_module(f"inception_{name}/5x5_reduce", nn.Conv2d(channels, r5, 1))
            self.add_module(f"inception_{name}/5x5", nn.Conv2d(r5, c5, 5, 1, 2))
            self.add_module(f"inception_{name}/pool_proj", nn.Conv2d(channels, proj, 1))
            channels = c1 + c3 + c5 + proj
            loss = {"4a": "loss1", "4d": "loss2"}.get(name)
            if loss:
                width, size, hidden = head
                self.add_module(f"{loss}/conv", nn.Conv2d(channels, width, 1))
                self.add_module(f"{loss}/fc", nn.Linear(width * size * size, hidden))
                self.add_module(f"{loss}/classifier", nn.Linear(hidden, classes))
        self.add_module("loss3/classifier", nn.Linear(channels, classes))

    def layer(self, name, x):
        return F.relu(self.get_submodule(name)(x))

    def inception(self, name, x):
        def layer(part, x):
            return self.layer(f"inception_{name}/{part}", x)

        return torch.cat([
            layer("1x1", x),
            layer("3x3", layer("3x3_reduce", x)),
            layer("5x5", layer("5x5_reduce", x)),
            layer("pool_proj", F.max_pool2d(x, 3, 1, 1, ceil_mode=True)),
        ], 1)  # fmt: skip

    def head(self, loss, x):
        x = self.layer(f"{loss}/conv", F.avg_pool2d(x, 5, 3, ceil_mode=True))
        return self.get_submodule(f"{loss}/classifier")(self.layer(f"{loss}/fc", x.flatten(1)))

    def all_outputs(self, x, auxiliary=True):
        def lrn(x):
            return F.local_response_norm(x, 5, alpha=self.alpha, beta=0.75, k=1.0)

        outputs = {}
        x = lrn(F.max_pool2d(self.layer("conv1/7x7_s2", x), 3, 2, ceil_mode=True))
        x = lrn(self.layer("conv2/3x3", self.layer("conv2/3x3_reduce", x)))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for name in self.inceptions:
            x = self.inception(name, x)
            if name in ("3b", "4e"):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            loss = {"4a": "loss1", "4d": "loss2"}.get(name)
            if auxiliary and loss:
                outputs[f"{loss}_logits"] = self.head(loss, x)
        outputs["logits"] = self.get_submodule("loss3/classifier")(x.mean((2, 3)))
        return outputs

    def forward(self, x):
        return self.all_outputs(x, auxiliary=False)["logits"]


class GooglenetTorchvision(nn.Module):
    """torchvision.models.googlenet from torchvision's blocks: batch norm with eps 1e-3, "5x5" that is 3x3, 2x2 maxpool4."""

    def __init__(self):
        super().__init__()
        self.conv1 = BasicConv2d(3, 8, kernel_size=7, stride=2, padding=3)
        self.conv2 = BasicConv2d(8, 8, kernel_size=1)
        self.conv3 = BasicConv2d(8, 16, kernel_size=3, padding=1)
        channels = 16
        for name, (c1, r3, c3, r5, c5, proj) in INCEPTIONS.items():
            self.add_module(f"inception{name}", Inception(channels, c1, r3, c3, r5, c5, proj))
            channels = c1 + c3 + c5 + proj
            if name in ("4a", "4d"):
                aux = InceptionAux(channels, CLASSES)
                aux.conv = BasicConv2d(channels, 6, kernel_size=1)
                aux.fc1, aux.fc2 = nn.Linear(6 * 4 * 4, 24), nn.Linear(24, CLASSES)
                self.add_module("aux1" if name == "4a" else "aux2", aux)
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.conv3(self.conv2(x)), 3, 2, ceil_mode=True)
        for name in INCEPTIONS:
            x = self.get_submodule(f"inception{name}")(x)
            if name == "3b":
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            if name == "4e":
                x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        return self.fc(x.mean((2, 3)))


def stride_first(bottleneck):
    """From torchvision's v1.5 to the paper's v1."""
    bottleneck.conv1.stride, bottleneck.conv2.stride = bottleneck.conv2.stride, bottleneck.conv1.stride


class Resnet(nn.Module):
    """He et al. 2015 from torchvision's blocks. `v1` moves a bottleneck's stride from the 3x3 to the first 1x1."""

    def __init__(self, block, widths, blocks, v1=False):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        channels = widths[0]
        for i, (width, count) in enumerate(zip(widths, blocks, strict=True), 1):
            layer = nn.Sequential()
            for j in range(count):
                stride = 2 if i > 1 and j == 0 else 1
                downsample = None
                if stride != 1 or channels != width * block.expansion:
                    downsample = nn.Sequential(
                        nn.Conv2d(channels, width * block.expansion, 1, stride, bias=False),
                        nn.BatchNorm2d(width * block.expansion),
                    )
                made = block(channels, width, stride, downsample)
                if v1:
                    stride_first(made)
                layer.append(made)
                channels = width * block.expansion
            self.add_module(f"layer{i}", layer)
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class DcganGenerator(nn.Module):
    """Radford et al. 2015 as in PyTorch's examples; the Sequential is called main there."""

    def __init__(self, z=12, features=4):
        super().__init__()
        layers, channels = [], z
        for i, width in enumerate([8 * features, 4 * features, 2 * features, features]):
            layers += [nn.ConvTranspose2d(channels, width, 4, 1 if i == 0 else 2, 0 if i == 0 else 1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.main = nn.Sequential(*layers, nn.ConvTranspose2d(channels, 3, 4, 2, 1, bias=False), nn.Tanh())

    def forward(self, x):
        return self.main(x)


class DcganDiscriminator(nn.Module):
    def __init__(self, features=4):
        super().__init__()
        layers, channels = [nn.Conv2d(3, features, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)], features
        for width in [2 * features, 4 * features, 8 * features]:
            layers += [nn.Conv2d(channels, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
            channels = width
        self.main = nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, 1, 0, bias=False), nn.Sigmoid())

    def forward(self, x):
        return self.main(x)


class Squeezenet(nn.Module):
    """torchvision.models.squeezenet1_1 from its Fire modules."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(12, 4, 8, 8), Fire(16, 4, 8, 8), nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(16, 6, 12, 12), Fire(24, 6, 12, 12), nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(24, 8, 16, 16), Fire(32, 8, 16, 16), Fire(32, 8, 20, 20), Fire(40, 8, 20, 20),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(40, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x):
        return self.classifier(self.features(x)).flatten(1)


class Unet(nn.Module):
    """Ronneberger et al. 2015, arXiv:1505.04597, with padded convolutions and batch norm, as mostly used today."""

    def __init__(self, widths=(6, 12, 20, 28), classes=2):
        super().__init__()

        def double(inputs, channels):
            block = nn.Module()
            block.conv1, block.bn1 = nn.Conv2d(inputs, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
            block.conv2, block.bn2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
            return block

        *down, middle = widths
        self.levels = range(1, len(widths))
        for level, inputs, channels in zip(self.levels, [3, *down], down):
            self.add_module(f"enc{level}", double(inputs, channels))
        self.middle = double(down[-1], middle)
        for level, inputs, channels in reversed(list(zip(self.levels, widths[1:], down, strict=True))):
            self.add_module(f"up{level}", nn.ConvTranspose2d(inputs, channels, 2, 2))
            self.add_module(f"dec{level}", double(2 * channels, channels))
        self.head = nn.Conv2d(down[0], classes, 1)

    def forward(self, x):
        def double(name, x):
            block = self.get_submodule(name)
            return F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))))

        skips = {}
        for level in self.levels:
            skips[level] = double(f"enc{level}", x)
            x = F.max_pool2d(skips[level], 2, 2)
        x = double("middle", x)
        for level in reversed(self.levels):
            x = torch.cat([self.get_submodule(f"up{level}")(x), skips[level]], 1)
            x = double(f"dec{level}", x)
        return self.head(x)


VGG11 = [4, "M", 8, "M", 12, 12, "M", 16, 16, "M", 16, 16, "M"]
VGG16 = [4, 4, "M", 8, 8, "M", 12, 12, 12, "M", 16, 16, 16, "M", 16, 16, 16, "M"]

# name: (how to build it, shape of the input)
NETWORKS = {
    "alexnet": (Alexnet, (1, 3, 99, 99)),
    "alexnet_torchvision": (AlexnetTorchvision, (1, 3, 95, 95)),
    "vgg11": (lambda: vgg(VGG11, False, 2), (1, 3, 64, 64)),
    "vgg16_bn": (lambda: vgg(VGG16, True, 1), (2, 3, 32, 32)),
    "nin": (Nin, (1, 3, 83, 83)),
    "nin_cifar10": (NinCifar10, (2, 3, 32, 32)),
    "googlenet": (Googlenet, (1, 3, 96, 96)),
    "googlenet_torchvision": (GooglenetTorchvision, (2, 3, 64, 64)),
    "resnet18": (lambda: Resnet(BasicBlock, [8, 12, 16, 20], [2, 2, 2, 2]), (2, 3, 64, 64)),
    "resnet50": (lambda: Resnet(Bottleneck, [4, 6, 8, 10], [3, 4, 6, 3]), (1, 3, 64, 64)),
    "resnet50_v1": (lambda: Resnet(Bottleneck, [4, 6, 8, 10], [3, 4, 6, 3], v1=True), (1, 3, 64, 64)),
    "dcgan_generator": (DcganGenerator, (2, 12, 1, 1)),
    "dcgan_discriminator": (DcganDiscriminator, (2, 3, 64, 64)),
    "squeezenet": (Squeezenet, (1, 3, 64, 64)),
    "densenet": (lambda: DenseNet(4, (2, 3, 3, 2), 8, bn_size=2, num_classes=CLASSES), (1, 3, 64, 64)),
    "unet": (Unet, (2, 3, 32, 40)),
}
