"""Write random weights and PyTorch's outputs for the zoo networks at full size.

    python scripts/torchvision_weights.py OUT [NAME ...] [--seed 1]

Needs the Python packages torch, torchvision, numpy and safetensors. For each network two files are written to OUT:

    NAME.safetensors       the state dict, under the names that models/NAME.net gives its layers
    NAME.io.safetensors    input1 and output1 (batch 1), input4 and output4 (batch 4; its first image is input1)

Weights are drawn so that activations keep their size and batch-norm statistics matter, as for tests/goldens, whose
README says more. Outputs are computed in float64 and rounded once. Where a network has auxiliary heads, their weights
are written and their outputs are not. Everything together takes about 5 GB and a quarter of an hour on one core.

Names of weights: torchvision's own for its networks; Caffe's layer names for alexnet (conv1 … fc8), googlenet
("inception_3a/3x3_reduce", "loss1/fc"), nin (conv1, cccp1, cccp2, conv2 … "conv4-1024", "cccp7-1024", "cccp8-1024") and
nin_cifar10 (conv1, cccp1 … cccp6); those of PyTorch's examples for dcgan (main.0, main.1, main.3 …); for unet enc1.conv1,
enc1.bn1 … middle, up4, dec4 … head.
"""

import argparse
import sys
import time
import zlib
from pathlib import Path

import torch
import torchvision.models as zoo
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "goldens"))
import networks
from common import Measure, randomize, state_of

# Szegedy et al. 2014, table 1.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip


def resnet_v1(build):
    model = build()
    for module in model.modules():
        if isinstance(module, zoo.resnet.Bottleneck):
            networks.stride_first(module)
    return model


IMAGE = (3, 224, 224)
# name: (how to build it, shape of one input)
NETWORKS = {
    "alexnet": (lambda: networks.Alexnet((96, 256, 384, 384, 256), 4096, 6, 1e-4, 1000), (3, 227, 227)),
    "alexnet_torchvision": (zoo.alexnet, IMAGE),
    "vgg11": (zoo.vgg11, IMAGE),
    "vgg13": (zoo.vgg13, IMAGE),
    "vgg16": (zoo.vgg16, IMAGE),
    "vgg19": (zoo.vgg19, IMAGE),
    "vgg11_bn": (zoo.vgg11_bn, IMAGE),
    "vgg13_bn": (zoo.vgg13_bn, IMAGE),
    "vgg16_bn": (zoo.vgg16_bn, IMAGE),
    "vgg19_bn": (zoo.vgg19_bn, IMAGE),
    "nin": (lambda: networks.Nin((96, 256, 384, 1024), 1000), IMAGE),
    "nin_cifar10": (lambda: networks.NinCifar10(192, (160, 96)), (3, 32, 32)),
    "googlenet": (lambda: networks.Googlenet(INCEPTIONS, (64, 192), (128, 4, 1024), 1e-4, 1000), IMAGE),
    "googlenet_torchvision": (lambda: zoo.googlenet(init_weights=False, aux_logits=True), IMAGE),
    "resnet18": (zoo.resnet18, IMAGE),
    "resnet34": (zoo.resnet34, IMAGE),
    "resnet50": (zoo.resnet50, IMAGE),
    "resnet101": (zoo.resnet101, IMAGE),
    "resnet152": (zoo.resnet152, IMAGE),
    "resnet50_v1": (lambda: resnet_v1(zoo.resnet50), IMAGE),
    "dcgan_generator": (lambda: networks.DcganGenerator(100, 64), (100, 1, 1)),
    "dcgan_discriminator": (lambda: networks.DcganDiscriminator(64), (3, 64, 64)),
    "squeezenet": (zoo.squeezenet1_1, IMAGE),
    "densenet121": (zoo.densenet121, IMAGE),
    "mobilenet_v2": (zoo.mobilenet_v2, IMAGE),
    "unet": (lambda: networks.Unet((64, 128, 256, 512, 1024)), (3, 256, 256)),
}


def make(name, build, shape, seed):
    """(weights, inputs and outputs, what Measure counted) of one network."""
    torch.manual_seed(zlib.crc32(name.encode()) + seed)
    model = build().eval()
    randomize(model)
    weights, images = {k: v.clone() for k, v in state_of(model).items()}, torch.randn(4, *shape)
    model.double()
    measure = Measure(model, batch=4)
    with torch.inference_mode():
        output = model(images.double()).to(torch.float32)
    io = {"input1": images[:1], "output1": output[:1], "input4": images, "output4": output}
    return weights, {k: v.contiguous().clone() for k, v in io.items()}, measure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks to write (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    unknown = set(options.names) - NETWORKS.keys()
    if unknown:
        raise SystemExit(f"no network {', '.join(sorted(unknown))}; there are {', '.join(NETWORKS)}")

    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or NETWORKS:
        start = time.time()
        weights, io, measure = make(name, *NETWORKS[name], options.seed)
        save_file(weights, options.out / f"{name}.safetensors")
        save_file(io, options.out / f"{name}.io.safetensors")
        spread = io["output4"].std().item()
        print(
            f"{name:22} params {measure.params:>11,}  macs {measure.macs:>14,}  "
            f"output spread {spread:.3g}  {time.time() - start:.0f} s",
            flush=True,
        )
        for complaint in measure.trouble:
            print(f"    {complaint}")


if __name__ == "__main__":
    main()
